/* SPDX-License-Identifier: MIT */
/* See tag.h; the calls for others are in heap.h. */
#include "tag.h"

#include "meta.h"
#include "root.h"
#include "span.h"

/* Arrays of one class are of one size, and all zero when given back. */
static struct mc_pool arrays[MC_CLASS_COUNT];

static uint64_t array_bytes(const struct mc_span *span)
{
    return span->slot_count * sizeof(uint64_t);
}

void mc_tags_give(struct mc_span *span)
{
    if (!span->tags) return;
    mc_sub(&mc_root()->tag_bytes, array_bytes(span));
    mc_pool_give(&arrays[span->class_index], (void *)span->tags);
    mc_store(&span->tags, 0);
}

/* Where the tag of a slot is; NULL if it can have none yet. */
static uint64_t *tag_of(struct mc_span *span, const void *slot)
{
    if (span->state != MC_SPAN_CLASS) return &span->tag;
    uint64_t *tags = (uint64_t *)mc_load_acquire(&span->tags);
    return tags ? &tags[mc_slot_index(span, slot)] : 0;
}

int mc_tag_settable(const void *slot)
{
    const struct mc_span *span = mc_page_map_find(slot);
    return span->state != MC_SPAN_CLASS || mc_load(&span->owner) == (uint64_t)mc_self;
}

/* Only the owner hands out slots, so only the owner makes the array; others see it through the
 * slot they were handed. */
static int make_array(struct mc_span *span)
{
    void *array = mc_pool_take(&arrays[span->class_index]);
    if (!array) array = mc_meta_alloc(array_bytes(span));
    if (!array) return 0;
    mc_add(&mc_root()->tag_bytes, array_bytes(span));
    mc_store_release(&span->tags, (uint64_t)array);
    return 1;
}

int mc_tag_prepare(void *slot, struct mc_tagged *tagged)
{
    struct mc_span *span = mc_page_map_find(slot);
    tagged->span = span;
    tagged->usable = span->slot_size;
    tagged->large = span->state != MC_SPAN_CLASS;
    if (likely(!tagged->large)) {
        if (unlikely(mc_load(&span->owner) != (uint64_t)mc_self)) return 0;
        if (unlikely(!span->tags) && !make_array(span)) return 0;
    }
    tagged->place = tag_of(span, slot);
    return 1;
}

/* The flag is set here, not before: a signal handler that frees may have found no tags and cleared
 * it. */
void mc_tag_finish(const struct mc_tagged *tagged, size_t requested, uint64_t tag)
{
    struct mc_span *span = tagged->span;
    if (unlikely(tagged->large)) span->requested = requested;
    if (unlikely(!(mc_peek(&span->flags) & MC_SPAN_TAGGED))) {
        mc_span_set_flag(span, MC_SPAN_TAGGED);
        if (!tagged->large) mc_span_set_limit(span);
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
    *usable = span->slot_size;
    *requested = span->state == MC_SPAN_CLASS ? MC_REQUESTED_UNKNOWN : span->requested;
    return tag;
}

void mc_tag_put_back(const void *slot, uint64_t tag)
{
    mc_store(tag_of(mc_page_map_find(slot), slot), tag);
}
