/* SPDX-License-Identifier: MIT */
/* Large and huge objects: each is a span of its own with one slot.
 *
 * Large ones are slices of an arena, up to MC_LARGE_MAX; huge ones have a mapping. Their slot size
 * is the request in whole pages, so what a large one leaves unused of its slices is never touched.
 * One made because an object grew has more slices than it needs, to go on growing. The page map knows
 * their first slice only. Any thread may free or resize them; that two free one at once is found by the
 * exchange of `state`, or, if one of them had asked for it, when it is to serve again the second time.
 *
 * A small object that grows has a large span too: see growing.h.
 * What a thread frees it keeps for a while: see large_kept.h. */
#ifndef MC_LARGE_H
#define MC_LARGE_H

#include "heap.h"
#include "limits.h"

/* Requires a size, an align or a room that no class has; bounded by the caller. Up to `room` bytes
 * behind the object are kept for it, so that it can grow where it is. *zero is set to whether the
 * object reads as zero. */
void *mc_large_alloc(struct mc_thread *self, size_t size, size_t room, size_t align, int *zero);

/* For `room`: a mapping, for what is so large that it had better move by mremap(2) as it grows. */
#define MC_LARGE_MAPPED SIZE_MAX

/* The room that suits an object that grew to `size`. */
static inline uint64_t mc_grow_room(uint64_t size)
{
    uint64_t room = (MC_GROW_TIMES - 1) * size;
    return room < MC_GROW_ROOM_MAX ? room : MC_GROW_ROOM_MAX;
}

/* A span that waits, and is the caller's, has an object of so many bytes from now on. */
void *mc_large_reuse(struct mc_thread *self, struct mc_span *span, size_t size);

/* An object of as many slices as the one that the thread freed last, else NULL: the short path
 * of a buffer that is taken and freed again and again. `self` may be the none thread. */
void *mc_large_again(struct mc_thread *self, size_t size);

/* Requires that `object` is the start of `span`'s slot. `self` may be NULL. */
void mc_large_free(struct mc_thread *self, struct mc_span *span, void *object);

/* The short path of that, for one without flags that waits as it is: 1; else 0, and nothing was done.
 * Requires a large span, perhaps of another object, or none any more; `self` may be the none thread. */
int mc_large_free_short(struct mc_thread *self, struct mc_span *span, void *object);

/* The object, perhaps moved (huge), with `size` bytes; NULL if it can't be done so: then it is
 * untouched, and has to be copied. */
void *mc_large_resize(struct mc_thread *self, struct mc_span *span, size_t size);

#endif
