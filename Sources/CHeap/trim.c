/* SPDX-License-Identifier: MIT */
/* See trim.h. */
#include "trim.h"

#include "class.h"
#include "huge.h"
#include "limits.h"
#include "os.h"
#include "proxy.h"
#include "root.h"
#include "span.h"
#include "thread.h"

enum { PARTS = 64 };
_Static_assert(MC_SPAN_SLICES_MAX *MC_SLICE <= PARTS * MC_PAGE, "a part of 64 is a page");

static uint64_t part_size(const struct mc_span *span)
{
    uint64_t size = mc_round_up(mc_class_span_size(span) / PARTS, MC_PAGE);
    return size ? size : MC_PAGE;
}

static unsigned part_of(const struct mc_span *span, uint64_t address)
{
    return (unsigned)((address - span->base) / part_size(span));
}

int mc_trim_is_purged(const struct mc_span *span, const void *slot)
{
    uint64_t purged = mc_load(&span->purged);
    return purged && purged >> part_of(span, (uint64_t)slot) & 1;
}

/* A bit for each part that a live slot reaches into. `free` slots are marked in `is_free` first. */
static uint64_t live_parts(const struct mc_span *span, const uint64_t *is_free)
{
    uint64_t live = 0, slot_size = mc_class_slot_size(span->class_index);
    for (uint32_t i = 0; i < span->fresh; i++) {
        uint64_t start = span->base + i * slot_size;
        if (is_free[i / 64] >> i % 64 & 1 || mc_trim_is_purged(span, (void *)start)) continue;
        unsigned last = part_of(span, start + slot_size - 1);
        for (unsigned part = part_of(span, start); part <= last; part++)
            live |= 1ull << part;
    }
    return live;
}

/* Parts that carved slots lie in, the last of them perhaps in part. */
static uint64_t carved_parts(const struct mc_span *span)
{
    if (!span->fresh) return 0;
    uint64_t size = span->fresh * mc_class_slot_size(span->class_index);
    unsigned last = part_of(span, span->base + size - 1);
    return last == PARTS - 1 ? ~0ull : (2ull << last) - 1;
}

static void unlink_purged(struct mc_span *span)
{
    uint64_t *link = &span->free;
    while (*link) {
        struct mc_slot *slot = (struct mc_slot *)*link;
        if (mc_trim_is_purged(span, slot))
            *link = (uint64_t)slot->next;
        else
            link = (uint64_t *)&slot->next;
    }
}

static void trim(struct mc_span *span)
{
    enum { WORDS = MC_SPAN_SLICES_MAX * MC_SLICE / MC_QUANTUM / 64 };
    uint64_t is_free[WORDS] = {0};
    if (!span->free || span->state != MC_SPAN_CLASS) return;
    for (struct mc_slot *slot = (struct mc_slot *)span->free; slot; slot = slot->next) {
        uint64_t index = mc_slot_index(span, slot);
        is_free[index / 64] |= 1ull << index % 64;
    }
    uint64_t parts = carved_parts(span) & ~live_parts(span, is_free) & ~span->purged;
    if (!parts) return;
    mc_store(&span->purged, span->purged | parts);
    mc_span_set_limit(span); /* frees look at `purged` by the long path only */
    mc_proxies_stop(span);
    unlink_purged(span);
    for (unsigned part = 0; part < PARTS; part++) {
        uint64_t start = span->base + part * part_size(span);
        if (parts >> part & 1 && !mc_os_purge((void *)start, part_size(span)))
            mc_add(&mc_root()->purged_bytes, part_size(span));
    }
}

int mc_trim_whole(struct mc_span *span)
{
    uint64_t size = mc_class_span_size(span);
    if (mc_os_purge((void *)span->base, size)) return 0;
    mc_store(&span->limit, 0);
    mc_store(&span->purged, carved_parts(span));
    mc_add(&mc_root()->purged_bytes, size);
    return 1;
}

/* `list` and those behind it. */
static void trim_list(uint64_t list)
{
    for (; list; list = ((struct mc_span *)list)->next)
        trim((struct mc_span *)list);
}

void mc_trim_thread(struct mc_thread *thread)
{
    for (unsigned i = 0; i < MC_CLASS_COUNT; i++) {
        trim((struct mc_span *)thread->current[i]);
        trim_list(thread->spans[i]);
    }
}

/* What a span looks like, in a byte: with luck of 1 in 256 a busy one looks idle, and pays some page
 * faults. `untagged_frees` holds what it was at the last tick. */
static uint8_t look_of(const struct mc_span *span)
{
    uint64_t state = (span->free ^ (uint64_t)span->used << 40) * 0x9e3779b97f4a7c15ull;
    return (uint8_t)(state >> 56);
}

static void trim_if_idle(struct mc_span *span)
{
    if (span->flags & MC_SPAN_TAGGED || !span->free || span->state != MC_SPAN_CLASS) return;
    uint8_t look = look_of(span);
    if (look == span->untagged_frees)
        trim(span);
    else
        mc_store(&span->untagged_frees, look);
}

void mc_trim_idle(struct mc_thread *thread)
{
    if (mc_huge_is(MC_HUGE_ALWAYS)) return; /* pages of 4 KiB would cost them the huge one */
    for (unsigned i = mc_class_for(MC_TRIM_SLOT); i < MC_CLASS_COUNT; i++) {
        unsigned left = MC_TRIM_SPANS;
        trim_if_idle((struct mc_span *)thread->current[i]);
        for (uint64_t list = thread->spans[i]; list && left--;
             list = ((struct mc_span *)list)->next)
            trim_if_idle((struct mc_span *)list);
    }
}

int mc_trim_restore(struct mc_span *span)
{
    unsigned part = (unsigned)__builtin_ctzll(span->purged);
    uint64_t from = part * part_size(span), end = from + part_size(span);
    uint64_t slot_size = mc_class_slot_size(span->class_index);
    uint64_t first = (from + slot_size - 1) / slot_size;
    uint64_t list = 0;
    mc_store(&span->purged, span->purged & ~(1ull << part));
    mc_span_set_limit(span);
    for (uint64_t i = first; i < span->fresh && i * slot_size < end; i++) {
        struct mc_slot *slot = (struct mc_slot *)(span->base + i * slot_size);
        slot->mark = span->mark;
        slot->next = (struct mc_slot *)list;
        list = (uint64_t)slot;
    }
    /* A part without the start of a slot gives none: go on to the next, or to fresh ones. */
    span->free = list;
    return list ? 1 : mc_span_carve(span);
}
