/* SPDX-License-Identifier: MIT */
/* Counters: what came in and went out, per stack. Each stack may have a row in every shard; a thread
 * counts in a shard of its own, if it has one (shard.h), with plain additions, or in shard 0, which
 * is everybody's, with locked ones. Rows are made accessible where a shard first needs them, so a
 * stack that one thread knows takes half a cache line.
 *
 * That is so little because a thread's own row counts modulo 2^32. What goes beyond is in a second row, its
 * turns, which few stacks have: see memctl_region.h. A counter's value follows at every instant from its
 * two words, since these may be three turns apart, and a thread that counts past a multiple of 2^30 notes that
 * before it counts anything else:
 *   1. Nothing larger than MC_COUNTERS_MOST is counted in such a row, but in shard 0.
 *   2. What counts objects or requested bytes is never ahead of what counts usable ones, so it is enough to
 *      look at these, and at lifetimes.
 *   3. A signal handler that counts in the row it interrupted may hide a turn from whom it interrupted:
 *      then it is noted with the next one.
 *
 * Counting can't fail: a thread for whose row there is no room counts in shard 0; if there is none
 * either, under MC_STACK_OVERFLOW, whose row there exists from the start. There, too, goes a row for whose
 * turns there is no room. */
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

/* Where the row that is everybody's is, or would be. */
static inline struct mc_region_counters *mc_counters_shared(uint32_t stack)
{
    return (struct mc_region_counters *)mc_area_record(MC_AREA_COUNTERS, 0) + stack;
}

/* Where the row of another shard than 0 is, or would be. */
static inline struct mc_region_narrow *mc_counters_row(unsigned shard, uint32_t stack)
{
    const struct mc_region_area *area = &mc_own_region.areas[MC_AREA_COUNTERS];
    struct mc_region_narrow *runs = (void *)(mc_areas + area->offset);
    return runs + 2 * shard * area->capacity + stack;
}

/* Makes the row of a stack in a thread's own shard, if there is none. 0 if there is no room; in shard 0 there is
 * nothing to be made. */
int mc_counters_make(unsigned shard, uint32_t stack);

/* What may be counted there: no more than that at once, and count and requested bytes no more than usable
 * ones. */
enum { MC_COUNTERS_MOST = 1 << 26 };
_Static_assert(MC_TAG_BIRTH_BITS < 26, "an object's lifetime may be counted there");

/* Notes the turns of a row that has made some. */
void mc_counters_note_turns(struct mc_region_narrow *row);

/* 1 if adding that much, just now, was a turn. */
static inline int mc_counters_turned(const uint32_t *counter, uint64_t added)
{
    return (mc_peek(counter) & ((1u << MC_TURN_SHIFT) - 1)) < added;
}

/* Adds in one instruction, of whatever compiler: a signal handler may count in the same row. */
static inline void mc_counters_add(uint32_t *counter, uint64_t amount)
{
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
    __asm__ volatile("addl %1, %0" : "+m"(*counter) : "r"((uint32_t)amount) : "cc");
#else
    __atomic_fetch_add(counter, (uint32_t)amount, __ATOMIC_RELAXED);
#endif
}

/* Counts in such a row. */
static inline void mc_counters_own_in(struct mc_region_narrow *row, struct mc_amount amount)
{
    mc_counters_add(&row->allocs, amount.count);
    mc_counters_add(&row->bytes_in, amount.requested);
    mc_counters_add(&row->usable_in, amount.usable);
    if (unlikely(mc_counters_turned(&row->usable_in, amount.usable))) mc_counters_note_turns(row);
}

static inline void mc_counters_own_out(struct mc_region_narrow *row, struct mc_amount amount,
                                       struct mc_life life)
{
    mc_counters_add(&row->frees, amount.count);
    mc_counters_add(&row->bytes_out, amount.requested);
    mc_counters_add(&row->usable_out, amount.usable);
    mc_counters_add(&row->temporary, life.temporary);
    /* Most do not live for a tick. */
    int turned = 0;
    if (life.lifetimes) {
        mc_counters_add(&row->lifetimes, life.lifetimes);
        turned = mc_counters_turned(&row->lifetimes, life.lifetimes);
    }
    if (unlikely(turned) || unlikely(mc_counters_turned(&row->usable_out, amount.usable)))
        mc_counters_note_turns(row);
}

/* In any row; `shard` is the calling thread's own, or 0. Returns the stack counted under: `stack`, or
 * MC_STACK_OVERFLOW. */
uint32_t mc_counters_in(unsigned shard, uint32_t stack, struct mc_amount amount);
void mc_counters_out(unsigned shard, uint32_t stack, struct mc_amount amount, struct mc_life life);

/* The same for one object of a sampled stack, of interval n, and for its samples. Where there is no
 * room for these, it is one object under MC_STACK_OVERFLOW. */
uint32_t mc_counters_sample_in(unsigned shard, uint32_t stack, uint32_t n, uint64_t requested,
                               uint64_t usable);
void mc_counters_sample_out(unsigned shard, uint32_t stack, uint32_t n, uint64_t requested,
                            uint64_t usable, struct mc_life life);

#endif
