/* SPDX-License-Identifier: MIT */
/* Counters: what came in and went out, per stack. Each stack may have a row in every shard; a thread
 * counts in its own shard, where there is one for it, with plain additions, or in shard 0, which
 * is everybody's, with locked ones. Rows are made accessible where a shard first needs them, so a
 * stack that one thread knows takes one cache line.
 *
 * Counting can't fail: a thread for whose row there is no room counts in shard 0; if there is none
 * either, under MC_STACK_OVERFLOW, whose row there exists from the start. */
#ifndef MC_COUNTERS_H
#define MC_COUNTERS_H

#include "region.h"

/* What an object, or several, add to a row. */
struct mc_amount {
    uint64_t count;
    uint64_t requested;
    uint64_t usable;
};

/* What leaves, and how long it lived in all. */
struct mc_life {
    uint64_t lifetimes; /* MC_TAG_BIRTH_NS */
    uint64_t temporary;
};

/* Where a shard's row is, or would be. */
static inline struct mc_region_counters *mc_counters_row(unsigned shard, uint32_t stack)
{
    const struct mc_region_area *area = &mc_own_region.areas[MC_AREA_COUNTERS];
    struct mc_region_counters *shards = (void *)(mc_areas + area->offset);
    return shards + shard * area->capacity + stack;
}

static inline int mc_counters_has_shard(unsigned thread)
{
    return thread - 1 < MC_REGION_SHARDS - 1;
}

/* Makes the row of a thread that has a shard for itself, if there is none. 0 if there is no room; nothing to be
 * made where the thread has no shard. */
int mc_counters_make(unsigned thread, uint32_t stack);

/* Counts in such a row; a step each, since a signal handler may count in it as well. */
static inline void mc_counters_own_in(struct mc_region_counters *row, struct mc_amount amount)
{
    mc_step(&row->allocs, amount.count);
    mc_step(&row->bytes_in, amount.requested);
    mc_step(&row->usable_in, amount.usable);
}

static inline void mc_counters_own_out(struct mc_region_counters *row, struct mc_amount amount,
                                       struct mc_life life)
{
    mc_step(&row->frees, amount.count);
    mc_step(&row->bytes_out, amount.requested);
    mc_step(&row->usable_out, amount.usable);
    mc_step(&row->lifetimes, life.lifetimes);
    mc_step(&row->temporary, life.temporary);
}

/* In any row. Returns the stack counted under: `stack`, or MC_STACK_OVERFLOW. */
uint32_t mc_counters_in(unsigned thread, uint32_t stack, struct mc_amount amount);
void mc_counters_out(unsigned thread, uint32_t stack, struct mc_amount amount, struct mc_life life);

/* The same for one object of a sampled stack, of interval n, and for its samples. Where there is no
 * room for these, it is one object under MC_STACK_OVERFLOW. */
uint32_t mc_counters_sample_in(unsigned thread, uint32_t stack, uint32_t n, uint64_t requested,
                               uint64_t usable);
void mc_counters_sample_out(unsigned thread, uint32_t stack, uint32_t n, uint64_t requested,
                            uint64_t usable, struct mc_life life);

#endif
