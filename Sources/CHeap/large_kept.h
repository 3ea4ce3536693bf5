/* SPDX-License-Identifier: MIT */
/* Large spans that a thread keeps: the last few that it freed, until the next tick (of any thread), in places that
 * only it fills and any thread may empty:
 *     all but two         whole: a buffer that is taken and freed again and again is found where it was
 *     MC_KEPT_GROWING     for the next small object that grows: of MC_GROWING_SIZE
 *     MC_KEPT_REST        what objects that grow are cut from, and join again when they lie before it: the next
 *                         has pages that are populated already
 * Those above MC_LARGE_KEPT_MAX, the rest among them, are no more than MC_LARGE_MAX together, or a single one with
 * its room: before that is exceeded some go, with their pages, the oldest first and the rest last. A request of
 * that size that none fits is cut from one of them.
 *
 * Invariant: a span in a place is WAITING; whoever takes it out has it to itself. */
#ifndef MC_LARGE_KEPT_H
#define MC_LARGE_KEPT_H

#include "check.h"
#include "heap.h"
#include "limits.h"
#include "print.h"
#include "thread.h"

enum { MC_KEPT_REST = MC_LARGE_KEPT - 1, MC_KEPT_GROWING = MC_KEPT_REST - 1 };

static inline unsigned mc_kept_place_after(unsigned place)
{
    return place + 1 < MC_KEPT_GROWING ? place + 1 : 0;
}

static inline unsigned mc_kept_place_before(unsigned place, unsigned count)
{
    return place ? place - 1 : count - 1;
}

static inline int mc_kept_has_places(const struct mc_thread *self)
{
    return self && self != &mc_thread_none;
}

/* The span in this place, now the caller's, or NULL. The place is exchanged, since another thread may
 * be flushing it. A span that was put in two places does not wait in the second. */
static inline struct mc_span *mc_kept_take_place(struct mc_thread *self, unsigned place)
{
    if (!mc_load(&self->large[place])) return 0;
    struct mc_span *span = (struct mc_span *)mc_take(&self->large[place]);
    if (span && unlikely(mc_load(&span->state) != MC_SPAN_WAITING))
        mc_panic("free()", (void *)span->base, "double free");
    return span;
}

/* Puts the span there. What another put there goes. */
void mc_kept_put_place(struct mc_thread *self, unsigned place, struct mc_span *span);

/* A waiting span for `size` bytes of whole pages, at a multiple of `align`, with up to `room` bytes behind it for
 * it to grow, or NULL. It may be larger; it is the caller's, and still WAITING. */
struct mc_span *mc_kept_take(struct mc_thread *self, uint64_t size, uint64_t room, uint64_t align);

/* Keeps a span that is WAITING. */
void mc_kept_put(struct mc_thread *self, struct mc_span *span);

/* For objects that grow where they are. Makes the span end after `size` bytes; what is behind becomes the rest. */
void mc_kept_cut(struct mc_thread *self, struct mc_span *span, uint64_t size);

/* Joins the rest to the span if it is right behind. 1 if it was. */
int mc_kept_join_rest(struct mc_thread *self, struct mc_span *span);

/* Takes the slices behind the span up to `size` bytes in all. 0 if they are not free. */
int mc_kept_extend(struct mc_span *span, uint64_t size);

/* Gives back the spans that wait. Any thread, for any thread. */
void mc_kept_flush(struct mc_thread *thread);
void mc_kept_flush_all(void);

/* Asserts that what waits is whole, and is found in the page map. No other thread may be in the heap. */
void mc_kept_check(const struct mc_thread *thread);

#endif
