/* SPDX-License-Identifier: MIT */
/* Serving: the slots that a thread's next small requests get.
 *
 *     span->free --all of them, when there are none left--> serving->free --malloc--> the program
 *          ^------------------------------free------------------------------------------'
 *
 * malloc takes from one list and free puts on another, so that neither waits for a word that the
 * other has just written; and the one counts in the struct here, the other in the span. The idea of
 * separate lists is mimalloc's: Leijen, Zorn, de Moura: "Mimalloc: Free List Sharding in Action",
 * 2019. Larger classes, whose pages hold a slot or two, are served from their span's own list, last
 * freed first.
 *
 * Invariants, asserted by mc_serving_check():
 *   1. a slot here is free (mark, no tag), and counted in the `used` of the span it lies in
 *   2. `used` is minus the number of slots
 *   3. all lie in `span`; or, if that is 0, in spans of other threads, and were cached (see cache.h); or they are
 *      slots that the thread has again, and lie in any span of its own (see reuse.h)
 *   4. `span`, if it is not 0, is the thread's current one of the class, also while no slot is here: what
 *      was freed in it since is taken without a look for it */
#ifndef MC_SERVING_H
#define MC_SERVING_H

#include "class.h"
#include "reuse.h"
#include "thread.h"

static inline struct mc_serving *mc_serving_of(struct mc_thread *thread, unsigned class_index)
{
    return &thread->serving[class_index];
}

/* Slots in it. */
static inline uint32_t mc_serving_count(const struct mc_serving *serving)
{
    return mc_counts_listed(mc_load(&serving->counts));
}

/* All free slots of a span that is current and plain: nothing of it is purged. The first is the caller's, as
 * by mc_serving_pop(). Requires that there are some, and none here. Sets how many were taken. */
static inline void *mc_serving_take(struct mc_serving *serving, struct mc_span *span,
                                    uint64_t *count)
{
    struct mc_slot *slot = (struct mc_slot *)span->free;
    *count = span->fresh + 1u - (uint32_t)span->used; /* CURRENT counts, too */
    mc_store(&serving->free, (uint64_t)slot->next);
    mc_store(&span->free, 0);
    mc_step(&span->used, (int32_t)*count);
    mc_store(&serving->counts, serving->counts + MC_COUNTS_ALLOCATION - *count);
    mc_reuse_not_served(serving);
    slot->mark = 0;
    return slot;
}

/* The thread's current span of the class is this one from now on; 0 if it has none. */
static inline void mc_serving_follow(struct mc_thread *thread, unsigned class_index,
                                     struct mc_span *span)
{
    struct mc_serving *serving = &thread->serving[class_index % MC_DIRECT_CLASSES];
    if (class_index < MC_DIRECT_CLASSES && !serving->free) mc_store(&serving->span, (uint64_t)span);
}

/* The same of any current span. */
void mc_serving_fill(struct mc_serving *serving, struct mc_span *span);

/* All slots of a list of the thread's cache. */
void mc_serving_fill_cached(struct mc_serving *serving, struct mc_span *list);

/* Puts all slots back where they came from, and those that wait to be reused in their spans;
 * mc_serving_return_cached() the latter and those that were cached. */
void mc_serving_return(struct mc_thread *thread, unsigned class_index);
void mc_serving_return_all(struct mc_thread *thread);
void mc_serving_return_cached(struct mc_thread *thread);

/* 1 if all slots of the thread's current span of the class are free. */
int mc_serving_is_idle(const struct mc_thread *thread, unsigned class_index);

/* If so, takes back those that are here, so that nothing but CURRENT keeps the span. Returns whether. */
int mc_serving_leave_empty(struct mc_thread *thread, unsigned class_index);

/* 1 if the slot, which lies in `span`, is to be served to any thread. Any thread. */
int mc_serving_has(const struct mc_span *span, const void *slot);

void mc_serving_check(struct mc_thread *thread);

#endif
