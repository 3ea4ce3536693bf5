/* SPDX-License-Identifier: MIT */
/* A thread's shard: where its rows of counters are, so that counting asks for nothing else.
 *
 *     mc_shard_row     the row of a stack in the calling thread's shard
 *     mc_shard_take    finds out where they are, in the thread's first long way
 *     mc_shards_begin, mc_shards_end     the areas were made; they are about to go
 *
 * Which shard is a thread's, and whether it has one, never changes; where it lies does, when a forked child
 * makes a region of its own. So what a thread knows is good for one generation of the areas: it compares
 * one number, and that there is a table at all, that it is this one and that the shard is its own are
 * true together.
 *
 * The thread alone writes what it knows, rows before the generation that makes them good, so a signal
 * handler in between takes them itself. */
#ifndef MC_SHARD_H
#define MC_SHARD_H

#include "counters.h"

enum { MC_SHARDS_NONE = 1, MC_SHARDS_FIRST }; /* a thread that knows nothing says 0 */
extern uint32_t mc_shards_generation;         /* [shared] NONE while there are no areas */

/* A thread has few bytes of its own at hand. */
extern __thread struct mc_shard {
    uint32_t first;      /* its rows begin so many rows behind mc_areas */
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

/* The thread's number. Requires the same. */
unsigned mc_shard_thread(void);

/* Requires that the areas are there. */
void mc_shard_take(unsigned thread);

/* By whoever makes them; all they need is there. */
void mc_shards_begin(void);
void mc_shards_end(void);

#endif
