/* SPDX-License-Identifier: MIT */
/* Stacks: backtraces and their ids. A stack is a path in a tree of frames (frames.h), so that stacks share
 * their outer parts; equal backtraces of one epoch have one id (but see index.h).
 *
 * A backtrace is known again by a 64-bit hash of its frames together with its depth. That two of a
 * million different ones agree in both has a chance below 1 in 10^7; looking at the frames themselves
 * would cost a cache miss for each allocation. */
#ifndef MC_STACKS_H
#define MC_STACKS_H

#include "region.h"

/* The id of a backtrace with this mc_path_hash (trail.h); 0 if there is none yet. `before`: the id of
 * the backtrace before it, or 0. Stacks first met one after the other are often met so again, and the
 * next record is at hand, where the index is far off. */
uint32_t mc_stacks_find(uint64_t hash, uint32_t depth, uint32_t flags, uint32_t before);

/* That will be asked for soon: the index is far off. */
void mc_stacks_expect(uint64_t hash, uint32_t depth, uint32_t flags);

/* A stack known to have some of its outermost frames in common with another, none of which was cut:
 * they need not be looked for one by one, which is two cache misses each. */
struct mc_stack_alike {
    uint32_t stack;
    uint32_t shared; /* frames; 0: nothing is known */
};

/* The id of the backtrace; MC_STACK_OVERFLOW if the table has no room. `flags` are MC_STACK_. */
uint32_t mc_stacks_intern(const uint64_t *pcs, uint32_t depth, uint32_t flags,
                          struct mc_stack_alike alike);

/* The same of one that mc_stacks_find() has not found, with the hash that it was asked for. */
uint32_t mc_stacks_add(uint64_t hash, const uint64_t *pcs, uint32_t depth, uint32_t flags,
                       struct mc_stack_alike alike);

/* Its MC_STACK_ flags; memctl may change some of them. */
static inline unsigned mc_stacks_flags(uint32_t stack)
{
    const struct mc_region_stack *record = mc_area_record(MC_AREA_STACKS, stack);
    return mc_load(&record->flags);
}

#endif
