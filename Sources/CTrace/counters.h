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

/* Returns the stack counted under: `stack`, or MC_STACK_OVERFLOW. */
uint32_t mc_counters_in(unsigned thread, uint32_t stack, struct mc_amount amount);
void mc_counters_out(unsigned thread, uint32_t stack, struct mc_amount amount, struct mc_life life);

/* The same for one object of a sampled stack, of interval n, and for its samples. Where there is no
 * room for these, it is one object under MC_STACK_OVERFLOW. */
uint32_t mc_counters_sample_in(unsigned thread, uint32_t stack, uint32_t n, uint64_t requested,
                               uint64_t usable);
void mc_counters_sample_out(unsigned thread, uint32_t stack, uint32_t n, uint64_t requested,
                            uint64_t usable, struct mc_life life);

#endif
