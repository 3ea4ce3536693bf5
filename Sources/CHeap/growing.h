/* SPDX-License-Identifier: MIT */
/* Growing: small objects that grow, and where they do.
 *
 *     slot --realloc--> slot --> ... --from MC_GROW_FIRST on--> GROWING --from MC_GROW_MIN on--> large
 *
 * An object that grew once grows again, and each time it outgrows its class it would be copied. So it gets a large
 * span of MC_GROWING_SIZE, of which it has a page or two, and then goes on by noting its new size. What that wastes
 * is bounded by how many of them a thread may have, MC_GROWING_COUNT; all others have slots.
 *
 * Where the last MC_GROW_SURE of a thread all came so far, the next begins at MC_GROW_EARLY: the copies below are
 * most of what growing costs then. One that is freed before it came so far ends that; and as long as
 * MC_GROWING_EARLY are alive, no other begins early.
 *
 * Any thread may free or resize one, as any large object. What its maker does needs no atomic step: it counts in
 * `growing`, all others in `growing_gone`.
 *
 * Invariants, the first asserted by mc_heap_check():
 *   1. mc_growing_count() is the number of live spans that are GROWING and that the thread made; no more than
 *      MC_GROWING_COUNT
 *   2. `requested` of such a span is what the object has, below MC_GROW_MIN */
#ifndef MC_GROWING_H
#define MC_GROWING_H

#include "heap.h"
#include "limits.h"

/* A place for an object of the thread's that grew to `size`, below MC_GROW_MIN; or NULL: it has enough of them, or
 * memory is short. `self` is attached. */
void *mc_growing_make(struct mc_thread *self, size_t size);

/* It is freed, or no small one any more. Any thread; `self` may be NULL. */
void mc_growing_end(struct mc_thread *self, struct mc_span *span);

/* It has `size` bytes now, no less than before. Any thread. */
static inline void mc_growing_go_on(struct mc_thread *self, struct mc_span *span, size_t size);

/* From this size on the next object of the thread's that grows begins there. */
static inline size_t mc_growing_first(const struct mc_thread *self);

/* Those of the thread that live. */
static inline unsigned mc_growing_count(const struct mc_thread *self)
{
    return (uint16_t)(self->growing - mc_load(&self->growing_gone));
}

/* One more of the thread's came so far. */
static inline void mc_growing_came_far(struct mc_thread *self)
{
    if (self->grew < MC_GROW_SURE) self->grew++;
}

static inline void mc_growing_go_on(struct mc_thread *self, struct mc_span *span, size_t size)
{
    int came_far = span->requested < MC_GROW_FIRST && size >= MC_GROW_FIRST;
    if (came_far && span->maker == (uint64_t)self) mc_growing_came_far(self);
    span->requested = size;
}

static inline size_t mc_growing_first(const struct mc_thread *self)
{
    if (likely(self->grew < MC_GROW_SURE)) return MC_GROW_FIRST;
    return mc_growing_count(self) < MC_GROWING_EARLY ? MC_GROW_EARLY : MC_GROW_FIRST;
}

#endif
