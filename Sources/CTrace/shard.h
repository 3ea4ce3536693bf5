/* SPDX-License-Identifier: MIT */
/* Shards: which threads have rows of counters to themselves, and where these are, so that counting asks for
 * nothing else.
 *
 *     mc_shard_own     the calling thread's shard, or 0: it counts in common
 *     mc_shard_row     the row of a stack in it
 *     mc_shard_take    takes one for the thread, if it is time
 *     mc_shards_begin, mc_shards_end     the areas were made; they are about to go
 *
 * There are few shards, and a thread's rows are pages of its own. So they are for threads that count much: the first
 * that counts anything has one at once, every other when it has counted MC_SHARD_AFTER times in common.
 * A shard is a thread number's for good, and with it whoever has that number next.
 *
 * Where a thread's rows are changes when a forked child makes a region of its own. So what a thread
 * knows is good for one generation of the areas: it compares one number, and that there is a table at all, that it
 * is this one and that the shard is its own are true together.
 *
 * Invariant: a shard is one thread number's, which one living thread has at most, or nobody's. */
#ifndef MC_SHARD_H
#define MC_SHARD_H

#include "counters.h"

enum { MC_SHARD_AFTER = 1 << 14 };
enum { MC_SHARDS_NONE = 1, MC_SHARDS_FIRST }; /* a thread that knows nothing says 0 */
extern uint32_t mc_shards_generation;         /* [shared] NONE while there are no areas */

/* A thread has few bytes of its own at hand. */
extern __thread struct mc_shard {
    union {
        uint32_t first;   /* its rows begin so many rows behind mc_areas */
        uint32_t counted; /* of who knows none: how often it asked, or what it knew once */
    };
    uint32_t generation; /* of the areas that they are in */
} mc_shard;
_Static_assert((uint64_t)MC_AREA_PAGES_MAX *MC_PAGE / sizeof(struct mc_region_narrow) <= UINT32_MAX,
               "so many rows");

/* 1 if the thread has a shard, and mc_shard_row() may be asked. */
static inline int mc_shard_is_known(void)
{
    return mc_shard.generation == mc_load(&mc_shards_generation);
}

/* Requires that it is known. Whether the row is there is another question. */
static inline struct mc_region_narrow *mc_shard_row(uint32_t stack)
{
    return (struct mc_region_narrow *)(void *)mc_areas + ((uint64_t)mc_shard.first + stack);
}

/* What mc_shard_row() will be asked for. */
static inline void mc_shard_expect(uint32_t stack)
{
    if (mc_shard_is_known()) __builtin_prefetch(mc_shard_row(stack), 1);
}

unsigned mc_shard_own(void);

/* By a thread that knows none, with its number, or 0 if it has none. 1 if it has a shard now. Requires that the
 * areas are there. Not to be called by a signal handler that interrupted it. */
int mc_shard_take(unsigned thread);

/* By whoever makes them; all they need is there. */
void mc_shards_begin(void);
void mc_shards_end(void);

#endif
