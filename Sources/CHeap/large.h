/* SPDX-License-Identifier: MIT */
/* Large and huge objects: each is a span of its own with one slot.
 *
 * Large ones are slices of an arena, up to MC_LARGE_MAX; huge ones have a mapping. Their slot size
 * is the request in whole pages, so what a large one leaves unused of its slices is never touched.
 * One made because an object grew has more slices than it needs, to go on growing. The page map knows their first slice only. Any thread may free or resize them; that two
 * free one at once is found by the exchange of `state`.
 *
 * A thread keeps the last few large spans that it freed, whole, until the next tick (of any thread):
 * a program that takes and frees a buffer again and again finds it where it was. */
#ifndef MC_LARGE_H
#define MC_LARGE_H

#include "heap.h"

/* Requires a size, an align or a room that no class has; bounded by the caller. Up to `room` bytes
 * behind the object are kept for it, so that it can grow where it is. *zero is set to whether the
 * object reads as zero. */
void *mc_large_alloc(struct mc_thread *self, size_t size, size_t room, size_t align, int *zero);

/* Requires that `object` is the start of `span`'s slot. `self` may be NULL. */
void mc_large_free(struct mc_thread *self, struct mc_span *span, void *object);

/* Gives back the spans that wait. Any thread, for any thread. */
void mc_large_flush(struct mc_thread *thread);

/* The object, perhaps moved (huge), with `size` bytes; NULL if it can't be done so: then it is
 * untouched, and has to be copied. Requires size >= MC_GROW_MIN. */
void *mc_large_resize(struct mc_thread *self, struct mc_span *span, size_t size);

#endif
