/* SPDX-License-Identifier: MIT */
/* See growing.h. */
#include "growing.h"

#include "large.h"
#include "large_kept.h"
#include "pagemap.h"

/* Where the last one was, or a new one. */
static struct mc_span *take_span(struct mc_thread *self, size_t size)
{
    int zero;
    struct mc_span *span = mc_kept_take_place(self, MC_KEPT_GROWING);
    if (likely(span != 0)) {
        mc_large_reuse(self, span, size);
        return span;
    }
    size_t room = MC_GROWING_SIZE - mc_round_up(size, MC_PAGE);
    void *object = mc_large_alloc(self, size, room, MC_PAGE, &zero);
    return object ? mc_page_map_find(object) : 0;
}

void *mc_growing_make(struct mc_thread *self, size_t size)
{
    if (mc_growing_count(self) >= MC_GROWING_COUNT) return 0;
    struct mc_span *span = take_span(self, size);
    if (unlikely(!span)) return 0;
    span->flags |= MC_SPAN_GROWING;
    span->requested = size;
    mc_store(&self->growing, (uint16_t)(self->growing + 1));
    if (size >= MC_GROW_FIRST) mc_growing_came_far(self);
    return (void *)span->base;
}

__attribute__((noinline)) void mc_growing_end(struct mc_thread *self, struct mc_span *span)
{
    struct mc_thread *maker = (struct mc_thread *)span->maker;
    span->flags &= (uint8_t)~MC_SPAN_GROWING;
    if (unlikely(maker != self)) {
        mc_add(&maker->growing_gone, 1);
        return;
    }
    mc_store(&self->growing, (uint16_t)(self->growing - 1));
    if (span->requested < MC_GROW_FIRST) self->grew = 0;
}
