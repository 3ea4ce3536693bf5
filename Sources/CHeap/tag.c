/* SPDX-License-Identifier: MIT */
/* See tag.h; the calls for others are in heap.h. */
#include "tag.h"

#include "check.h"
#include "meta.h"
#include "proxy.h"
#include "root.h"
#include "span.h"

/* An array of a class span, in whole cache lines. */
struct part {
    uint32_t first; /* the slot whose tag lies at its start */
    uint32_t lines;
    uint64_t *address; /* where the span keeps the array's, less what `first` takes */
};

enum { LINE = MC_CACHE_LINE / sizeof(uint64_t), LINES_MAX = MC_SLICE / MC_QUANTUM / LINE };

/* By lines; no span has more slots than the smallest ones make of a slice. All zero when given back. */
static struct mc_pool arrays[LINES_MAX + 1];

static struct part part_of(struct mc_span *span, uint64_t index)
{
    uint32_t first = mc_tags_first(span->slot_count), rest = span->slot_count - first;
    if (mc_tag_is_early(index, span->slot_count))
        return (struct part){0, (first + LINE - 1) / LINE, &span->tags};
    return (struct part){first, (rest + LINE - 1) / LINE, &span->more_tags};
}

static uint64_t offset_of(const struct part *part)
{
    return part->first * sizeof(uint64_t);
}

static void give(const struct part *part)
{
    uint64_t array = *part->address;
    if (!array) return;
    /* The pool writes to it: a reader from outside, of a process that was stopped here, must not take that for tags. */
    mc_store(part->address, 0);
    mc_sub(&mc_root()->tag_bytes, part->lines * MC_CACHE_LINE);
    mc_pool_give(&arrays[part->lines], (char *)array + offset_of(part));
}

__attribute__((noinline)) void mc_tags_give(struct mc_span *span)
{
    struct part first = part_of(span, 0), more = part_of(span, span->slot_count);
    give(&first);
    give(&more);
}

/* Where the tag of a slot is; NULL if it can have none yet. */
static uint64_t *tag_of(struct mc_span *span, const void *slot)
{
    if (span->state != MC_SPAN_CLASS) return &span->tag;
    return mc_tag_place(span, mc_slot_index(span, slot));
}

int mc_tag_settable(const void *slot)
{
    const struct mc_span *span = mc_page_map_find(slot);
    return span->state != MC_SPAN_CLASS || mc_load(&span->owner) == (uint64_t)mc_self;
}

/* Only the owner hands out slots, so only the owner makes arrays; others see them through the
 * slot they were handed. */
static uint64_t *make_place(struct mc_span *span, uint64_t index)
{
    struct part part = part_of(span, index);
    mc_assert(part.lines <= LINES_MAX);
    char *array = mc_pool_take(&arrays[part.lines]);
    if (!array) array = mc_meta_alloc(part.lines * MC_CACHE_LINE);
    if (!array) return 0;
    mc_add(&mc_root()->tag_bytes, part.lines * MC_CACHE_LINE);
    mc_store_release(part.address, (uint64_t)(array - offset_of(&part)));
    return mc_tag_place(span, index);
}

int mc_tag_prepare(void *slot, struct mc_tagged *tagged)
{
    struct mc_span *span = mc_page_map_find(slot);
    tagged->span = span;
    tagged->usable = mc_slot_size(span);
    tagged->large = span->state != MC_SPAN_CLASS;
    tagged->place = &span->tag;
    if (unlikely(tagged->large)) return 1;
    if (unlikely(mc_load(&span->owner) != (uint64_t)mc_self)) return 0;
    uint64_t index = mc_slot_index(span, slot);
    tagged->place = mc_tag_place(span, index);
    if (unlikely(!tagged->place)) tagged->place = make_place(span, index);
    return tagged->place != 0;
}

/* The flag is set here, not before: a signal handler that frees may have found no tags and cleared
 * it. */
void mc_tag_finish(const struct mc_tagged *tagged, size_t requested, uint64_t tag)
{
    struct mc_span *span = tagged->span;
    if (unlikely(tagged->large)) span->requested = requested;
    if (unlikely(!(mc_peek(&span->flags) & MC_SPAN_TAGGED))) {
        mc_span_set_flag(span, MC_SPAN_TAGGED);
        if (!tagged->large) {
            mc_span_set_limit(span);
            mc_proxies_stop(span);
        }
    }
    mc_store(&span->untagged_frees, 0);
    mc_store_release(tagged->place, tag);
}

int mc_tag_set(void *slot, size_t requested, uint64_t tag)
{
    struct mc_tagged tagged;
    if (!mc_tag_prepare(slot, &tagged)) return 0;
    mc_tag_finish(&tagged, requested, tag);
    return 1;
}

uint64_t mc_tag_take(const void *slot, size_t *usable, size_t *requested)
{
    struct mc_span *span = mc_page_map_find(slot);
    uint64_t *place = span ? tag_of(span, slot) : 0;
    uint64_t tag = place ? mc_load(place) : 0;
    if (!tag) return 0;
    mc_store(place, 0);
    *usable = mc_slot_size(span);
    *requested = span->state == MC_SPAN_CLASS ? MC_REQUESTED_UNKNOWN : span->requested;
    return tag;
}

void mc_tag_put_back(const void *slot, uint64_t tag)
{
    mc_store(tag_of(mc_page_map_find(slot), slot), tag);
}
