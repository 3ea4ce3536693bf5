/* SPDX-License-Identifier: MIT */
/* Objects that change their size: what stays where it is, and what of the thread's own moves on the short
 * way; see heap.h. What is not plain moves in preload/malloc.c. */
#include <string.h>

#include "growing.h"
#include "heap.h"
#include "large.h"
#include "limits.h"
#include "pagemap.h"
#include "refill.h"
#include "span.h"

/* In its slot, that is: smaller than half is worth a copy to a smaller one. */
static inline int stays(const struct mc_span *span, size_t size)
{
    uint64_t had = mc_slot_size(span);
    return size <= had && size >= had / 2 && had - size < MC_SLACK_MAX;
}

void *mc_realloc_in_place(void *object, size_t size)
{
    struct mc_span *span = mc_span_of_live(object, "realloc()");
    if (size > MC_REQUEST_MAX) return 0;
    if (span->state != MC_SPAN_CLASS) return mc_large_resize(mc_self, span, size);
    return stays(span, size) ? object : 0;
}

/* A slot begins and ends at whole quanta. */
enum { COPY_INLINE = 256 };
typedef uint64_t quantum __attribute__((vector_size(MC_QUANTUM), may_alias));

static inline void copy_small(void *to, const void *from, size_t size)
{
    for (size_t i = 0; i < (size + MC_QUANTUM - 1) / MC_QUANTUM; i++)
        ((quantum *)to)[i] = ((const quantum *)from)[i];
}

static inline void copy(void *to, const void *from, size_t size)
{
    if (size > COPY_INLINE)
        memcpy(to, from, size);
    else
        copy_small(to, from, size);
}

/* Of a plain object of the thread's own, or of a span that has a proxy: the checks of mc_free_into(), done
 * once for all. */
static inline void *move_own(struct mc_thread *self, struct mc_span *span, struct mc_slot *slot,
                             size_t size)
{
    if (unlikely(mc_looks_free(slot, span->mark))) return 0;
    if (stays(span, size)) return slot;
    size_t had = mc_slot_size(span);
    int grows = size > had && size >= mc_growing_first(self);
    if (grows && size >= MC_GROW_MIN) return 0;
    void *fresh = grows ? mc_growing_make(self, size) : 0;
    if (!fresh) fresh = mc_alloc(size);
    if (unlikely(!fresh)) return 0;
    copy(fresh, slot, had < size ? had : size);
    if (unlikely(mc_peek(&span->state) == MC_SPAN_PROXY))
        mc_free(slot); /* it may have stopped serving, or stand for another span by now */
    else
        mc_free_to_list(span, slot, span->mark);
    return fresh;
}

/* Of a large one: what was made to grow, and does. */
static inline void *grow_large(struct mc_thread *self, struct mc_span *span, void *object,
                               size_t size)
{
    uint64_t wanted = mc_round_up(size, MC_PAGE);
    if (wanted > span->size || wanted < span->slot_size || span->base != (uint64_t)object) return 0;
    if (span->flags) {
        if (span->flags != MC_SPAN_GROWING || size >= MC_GROW_MIN || size < span->requested)
            return 0;
        mc_growing_go_on(self, span, size);
    } else if (size < MC_GROW_MIN) {
        return 0;
    }
    span->slot_size = wanted;
    return object;
}

void *mc_realloc_short(void *object, size_t size)
{
    struct mc_thread *self = mc_self;
    if (unlikely(size - 1 >= MC_LARGE_MAX)) return 0;
    struct mc_span *span = mc_own_map_find(self, (uint64_t)object);
    if (!mc_starts_slot(span, object)) {
        span = mc_page_map_find(object);
        if (!span) return 0;
        if (mc_load(&span->state) == MC_SPAN_LARGE) return grow_large(self, span, object, size);
        if (mc_load(&span->owner) != (uint64_t)self || !mc_starts_slot(span, object)) return 0;
        mc_own_map_set(self, (uint64_t)object, span);
    }
    return move_own(self, span, object, size);
}
