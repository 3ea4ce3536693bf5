/* SPDX-License-Identifier: MIT */
/* Reuse: what a thread frees in its full spans serves its next requests.
 *
 *     full span --free--> serving[class].reuse --when `free` and the current span have none--> serving[class].free
 *                               '--when it has all it may have: those that came first--> the lists of their spans
 *
 * Where many objects live all spans are full, and the next slot that is freed lies in any of them. On a list of its
 * span it would wait until that serves again, and be out of the processor's caches by then; and the span would
 * have been taken from its owner's full ones and put back for a single slot. So frees of full spans go to one list
 * a class, and that serves before other spans do: they stay full, and what is left for lists of their own is spans
 * that empty. That a thread has again first what it freed last is how tcmalloc's caches work: Ghemawat, Menage:
 * "TCMalloc: Thread-Caching Malloc". Those that were never full, and classes that are not direct, know nothing of it.
 *
 * `list` of each span says where its frees go, so the short path of free knows no difference.
 *
 * Only the owner touches its lists, or whoever seized its struct. They go back when the thread wins a tick, at
 * malloc_trim(3) and when it has ended. A span can't be empty while slots of it are here, since those count as used;
 * but none is here with all its slots, of which it has more than a list may have.
 *
 * Invariants, asserted by mc_serving_check():
 *   1. a slot here is free (mark, no tag), lies in a span of the thread's own, and counts in `used` of that
 *   2. `used` of the list is how many more it may have, at least one */
#ifndef MC_REUSE_H
#define MC_REUSE_H

#include "heap.h"
#include "limits.h"

/* Slots that the list of a class may have. */
static inline uint32_t mc_reuse_room(unsigned class_index)
{
    uint64_t slots = MC_REUSE_BYTES / mc_class_slot_size(class_index);
    return slots < MC_REUSE_SLOTS ? (uint32_t)slots : MC_REUSE_SLOTS;
}

static inline uint32_t mc_reuse_room_of(const struct mc_serving *serving)
{
    return (uint16_t)serving->reuse.more;
}

/* Slots that wait there. Any thread. */
static inline uint32_t mc_reuse_waiting(const struct mc_serving *serving)
{
    const struct mc_list *reuse = &serving->reuse;
    return mc_reuse_count((struct mc_list){0, mc_load(&reuse->used), mc_load(&reuse->more)});
}

/* What is in `free` from now on comes from elsewhere. */
static inline void mc_reuse_not_served(struct mc_serving *serving)
{
    mc_store(&serving->reuse.more, mc_reuse_room_of(serving));
}

/* The list has slots enough to serve: the change costs more than a few save. */
static inline int mc_reuse_is_ready(const struct mc_serving *serving)
{
    return serving->reuse.free &&
           mc_reuse_waiting(serving) >= mc_reuse_room_of(serving) / MC_REUSE_SERVES;
}

/* All its slots are to be served next. Requires that there are some, and none in `free`. That they come from here is
 * said before they are there: a reader from outside, of a process that was stopped in between, would take the slots
 * for those of the current span. */
static inline void mc_reuse_serve(struct mc_serving *serving)
{
    uint32_t room = mc_reuse_room_of(serving), count = mc_reuse_waiting(serving);
    mc_store(&serving->reuse.more, room | MC_REUSE_SERVED);
    mc_store(&serving->reuse.used, (int32_t)room);
    mc_store(&serving->counts, serving->counts - count);
    mc_store_release(&serving->free, serving->reuse.free);
    mc_store_release(&serving->reuse.free, 0);
}

/* To be called when a free has made its `used` 0: half of the slots go back. Returns how many bytes of spans are
 * empty now. */
uint64_t mc_reuse_overflow(struct mc_thread *self, struct mc_serving *serving);

/* All slots go back, and those in `free` that came from here. */
void mc_reuse_return(struct mc_thread *thread, struct mc_serving *serving);

#endif
