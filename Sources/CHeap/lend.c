/* SPDX-License-Identifier: MIT */
/* See lend.h. */
#include "lend.h"

#include "cache.h"
#include "class.h"
#include "thread.h"

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

unsigned mc_lend_class(struct mc_thread *self, unsigned index)
{
    if (unlikely(self->current[index] == (uint64_t)&mc_span_none)) return first_lender(self, index);
    if (index < MC_DIRECT_CLASSES || may_serve_itself(self, index)) return index;
    for (unsigned i = index + 1; i <= index + MC_LEND_STEPS && i < MC_CLASS_COUNT; i++)
        if (has_used_slot(self, i)) return i;
    return index;
}
