/* SPDX-License-Identifier: MIT */
/* Cache: slots of other threads' spans that a thread has freed and not handed back yet.
 *
 * A thread that frees what others allocated puts the slots on lists of its own, one a class, and
 * serves its own requests from them: two threads that exchange objects then share no word of the
 * heap at all. What exceeds MC_CACHE_BYTES goes to the owners, half of a list at a time (all of it, where the
 * thread never asked for such slots), one exchange for all slots of a span. A list is a struct mc_span without memory of its own, so that it can be a
 * thread's current span where spans serve themselves: the paths of malloc know no difference. For small
 * classes see serving.h.
 *
 * A span of which it frees many slots has a list of its own, to which frees find a shorter way: proxy.h.
 *
 * What a thread serves from its cache it may hand on, and then a third one frees it. Where slots go round many
 * threads in that way, each comes to free those of more spans than it has proxies for. A list that sees it is
 * *homing* for a while: all that is freed goes to the owners, unless the thread would have to touch fresh memory
 * without it.
 *
 * Only the thread itself touches its cache, or whoever seized its struct. The lists are given back
 * when the thread wins a tick, at malloc_trim(3) and when it has ended; what a thread that does
 * nothing can withhold is MC_CACHE_BYTES a class, and MC_CACHE_FIRST of one whose slots it never asked for; and
 * as much again of each span that it was freeing into, or half as much.
 *
 * Invariants, asserted by mc_cache_check():
 *   1. a cached slot is free (mark, no tag), and counted in the `used` of the span it lies in
 *   2. a list's `used` is minus the number of its slots */
#ifndef MC_CACHE_H
#define MC_CACHE_H

#include "heap.h"
#include "limits.h"
#include "proxy.h"

/* Puts a live slot of another's span in the cache, if all is plain: the start of one, without a tag, of
 * a class that is cached, and room for it. Else 0, and nothing was done. The short path of remote
 * frees: what it does not like is for mc_cache_push() and its caller to tell. */
static inline int mc_cache_push_plain(struct mc_thread *self, const struct mc_span *span,
                                      struct mc_slot *slot);

/* Puts a slot of another's span in the cache; 0 if it is none that is cached. `self` may be the none
 * thread. */
int mc_cache_push(struct mc_thread *self, const struct mc_span *span, struct mc_slot *slot);

/* The list of the class, if it has slots enough to serve; else NULL, and so once in MC_CACHE_RETURNS
 * times, when all go to their owners, and while it is homing, if `has_own`: the thread has slots of its own that
 * serve as well. */
struct mc_span *mc_cache_ready(struct mc_thread *self, unsigned class_index, int has_own);

/* Hands all slots back to their owners: of all classes, or of one. */
void mc_cache_flush(struct mc_thread *thread);
void mc_cache_flush_class(struct mc_thread *thread, unsigned class_index);

/* 1 if a list that begins with the slot `list`, or 0, has `wanted`. Any thread: one that changes underfoot
 * may lead anywhere, so only slots of the class are followed. */
int mc_slots_reach(uint64_t list, unsigned class_index, const void *wanted);

/* 1 if any thread's cache has the slot, which lies in `span`. Any thread. */
int mc_cache_has(const struct mc_span *span, const void *slot);

/* Slots in a thread's cache of one class. */
static inline uint32_t mc_cache_count(const struct mc_span *list)
{
    return (uint32_t)-mc_load(&list->used);
}

void mc_cache_check(const struct mc_thread *thread);

/* Where a span's state, flags and class are one word, in this order from its lowest byte on; the fourth
 * byte, `untagged_frees`, changes meanwhile. */
static inline const uint32_t *mc_span_kind(const struct mc_span *span)
{
    _Static_assert(offsetof(struct mc_span, state) % sizeof(uint32_t) == 0 &&
                       offsetof(struct mc_span, flags) == offsetof(struct mc_span, state) + 1 &&
                       offsetof(struct mc_span, class_index) == offsetof(struct mc_span, state) + 2,
                   "a word");
    return (const uint32_t *)(const void *)&span->state;
}

/* `slot_count` of a list is the number of slots it may have. */
static inline void mc_cache_add(struct mc_span *list, struct mc_slot *slot, uint64_t mark)
{
    mc_store(&slot->next, (struct mc_slot *)list->free);
    mc_store_release(&slot->mark, mark);
    mc_store(&list->free, (uint64_t)slot);
    mc_step(&list->used, -1);
    list->strays++;
}

/* 1 if the list of the class has slots enough to serve. */
static inline int mc_cache_serves(const struct mc_thread *self, unsigned class_index)
{
    const struct mc_span *lists = (const struct mc_span *)self->cache;
    return lists && class_index < MC_CACHE_CLASSES &&
           mc_cache_count(&lists[class_index]) >= MC_CACHE_SERVES;
}

static inline int mc_cache_push_plain(struct mc_thread *self, const struct mc_span *span,
                                      struct mc_slot *slot)
{
    if (unlikely(mc_load(&span->owner) == (uint64_t)self)) return 0;
    struct mc_span *lists = (struct mc_span *)self->cache;
    if (unlikely(!lists)) return 0;
    uint32_t kind = mc_load(mc_span_kind(span)), class_index = kind >> 16 & 0xff;
    if (unlikely((kind & (0xff | MC_SPAN_TAGGED << 8)) != MC_SPAN_CLASS) ||
        unlikely(class_index >= MC_CACHE_CLASSES) || unlikely(mc_load(&span->purged)))
        return 0;
    struct mc_span *list = &lists[class_index];
    unsigned __int128 product = (unsigned __int128)((uint64_t)slot - span->base) * span->reciprocal;
    if (unlikely((uint64_t)product >= span->reciprocal) ||
        unlikely((uint64_t)(product >> 64) >= mc_load(&span->fresh)) ||
        unlikely(mc_looks_free(slot, span->mark)))
        return 0;
    if (mc_proxy_push(self, list, span, slot)) return 1;
    if (unlikely(mc_cache_count(list) >= list->slot_count)) return 0;
    mc_cache_add(list, slot, span->mark);
    return 1;
}

#endif
