/* SPDX-License-Identifier: MIT */
/* See lend.h. */
#include "lend.h"

#include "cache.h"
#include "check.h"
#include "reuse.h"
#include "tag.h"

static const struct mc_span *at(uint64_t address)
{
    return (const struct mc_span *)address;
}

static unsigned first_lender(struct mc_thread *self, unsigned index)
{
    unsigned lender = mc_class_lender(index);
    if (lender == index || self->lent[index] >= MC_LEND_BYTES / mc_class_slot_size(lender))
        return index;
    self->lent[index]++;
    return lender;
}

/* The class has slots of its own that were used before, or may have. */
static int may_serve_itself(const struct mc_thread *self, unsigned index)
{
    const struct mc_span *current = at(self->current[index]);
    const struct mc_serving *serving = &self->serving[index % MC_DIRECT_CLASSES];
    if (index < MC_DIRECT_CLASSES && (serving->free || mc_reuse_is_ready(serving))) return 1;
    return current->free || current->purged || self->spans[index] || self->kept[index] ||
           mc_load(&self->notified) || mc_cache_serves(self, index);
}

/* Its next slot is one that was used before. */
static int has_used_slot(const struct mc_thread *self, unsigned index)
{
    const struct mc_span *current = at(self->current[index]), *first = at(self->spans[index]);
    if (current->free) return 1;
    return first && first->free && !current->purged && current->fresh == current->slot_count;
}

/* Besides what serves now a direct class has a page's worth of them. */
static int has_many(const struct mc_thread *self, unsigned index)
{
    const struct mc_span *first = at(self->spans[index]);
    uint64_t slots = mc_reuse_waiting(&self->serving[index]);
    if (first && first->free) slots += (uint64_t)(first->fresh - first->used);
    return slots * mc_class_slot_size(index) >= MC_PAGE;
}

/* Slots of `lender` will do wherever those of the class do. */
static int fits(unsigned index, unsigned lender)
{
    uint64_t size = mc_class_slot_size(index), other = mc_class_slot_size(lender);
    return other > size && other <= 2 * size && __builtin_ctzl(other) >= __builtin_ctzl(size);
}

static unsigned direct_lender(const struct mc_thread *self, unsigned index)
{
    for (unsigned i = index + 1; i < MC_DIRECT_CLASSES && i <= index + MC_LEND_STEPS_DIRECT; i++)
        if (fits(index, i) && has_many(self, i)) return i;
    return index;
}

unsigned mc_lend_class(struct mc_thread *self, unsigned index)
{
    if (unlikely(self->current[index] == (uint64_t)&mc_span_none)) return first_lender(self, index);
    if (may_serve_itself(self, index)) return index;
    if (index < MC_DIRECT_CLASSES) return direct_lender(self, index);
    for (unsigned i = index + 1; i <= index + MC_LEND_STEPS && i < MC_CLASS_COUNT; i++)
        if (has_used_slot(self, i)) return i;
    return index;
}

/* -- where requests look for slots --------------------------------------------------------- */

static unsigned last_of(unsigned index)
{
    return (unsigned)(mc_class_slot_size(index) / MC_QUANTUM);
}

/* The fewest quanta that a request of the class is; one of no bytes is led nowhere. */
static unsigned first_of(unsigned index)
{
    return index ? last_of(index - 1) + 1 : 1;
}

static void lead(struct mc_thread *self, unsigned index, unsigned lender)
{
    for (unsigned i = first_of(index); i <= last_of(index); i++)
        mc_direct[i] = (uint64_t)&self->serving[lender];
    mc_led = index == lender ? mc_led & ~(1u << index) : mc_led | 1u << index;
}

void mc_lend_from(struct mc_thread *self, unsigned index, unsigned lender)
{
    if (likely(index == lender) || index >= MC_DIRECT_CLASSES || !fits(index, lender)) return;
    if (self->current[index] == (uint64_t)&mc_span_none) return; /* the first are counted */
    const struct mc_span *span = at(self->serving[lender].span);
    if (span && !mc_span_has_tags(span) && !self->serving[index].free) lead(self, index, lender);
}

void mc_lend_end(struct mc_thread *self, unsigned index)
{
    if (likely(!mc_led) || index >= MC_DIRECT_CLASSES) return;
    for (uint32_t rest = mc_led; rest; rest &= rest - 1) {
        unsigned i = (unsigned)__builtin_ctz(rest);
        if (i == index || mc_direct[last_of(i)] == (uint64_t)&self->serving[index])
            lead(self, i, i);
    }
}

void mc_lend_check(struct mc_thread *self)
{
    for (unsigned i = 0; i < MC_DIRECT_CLASSES; i++) {
        const struct mc_serving *own = &self->serving[i];
        const struct mc_serving *leads = (const struct mc_serving *)mc_direct[last_of(i)];
        mc_assert(mc_direct[first_of(i)] == (uint64_t)leads);
        mc_assert(leads >= own && leads < &self->serving[MC_DIRECT_CLASSES]);
        mc_assert((leads != own) == (mc_led >> i & 1));
        mc_assert(leads == own || (!own->free && fits(i, (unsigned)(leads - self->serving))));
    }
}
