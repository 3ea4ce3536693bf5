/* SPDX-License-Identifier: MIT */
/* Counters: what came in and went out, per stack. A stack has rows of three kinds, each made accessible where
 * somebody first needs it:
 *
 *     own      in the shard of a thread that has one (shard.h), by plain additions
 *     common   of all other threads, shard 0, by locked ones. Few stacks have one, here and there, so these lie
 *              close together and the stack has a place that says which is its
 *     wide     what is too large for the others, or sampled, and what found no room
 *
 * So a stack that one thread knows takes half a cache line. That is so little because all rows but the wide ones
 * count modulo 2^32. What goes beyond is in a second row, its turns, which few stacks have: see memctl_region.h.
 * A counter's value follows at every instant from its two words, since these may be three turns apart, and whoever
 * is to count past a multiple of 2^30 knows it before, sees to it that the turns have a place, and notes them and
 * what others have not noted yet before it counts anything else:
 *   1. Nothing larger than MC_COUNTERS_MOST is counted in such a row.
 *   2. What counts objects or requested bytes is never ahead of what counts usable ones, so it is enough to
 *      look at these, and at lifetimes.
 *   3. A signal handler that counts in the row it interrupted may hide a turn from whom it interrupted:
 *      then it is noted with the next one.
 *   4. In a common row the addition fails if the counter is not what was looked at. So four threads that pass one
 *      such multiple after the other would all have to be stopped between the addition and the note.
 *
 * Counting can't fail: where there is no room for a row, or for its turns, the wide one counts; if there is none
 * either, that of MC_STACK_OVERFLOW, which exists from the start. */
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

/* Where the wide row is, or would be. */
static inline struct mc_region_counters *mc_counters_wide(uint32_t stack)
{
    return (struct mc_region_counters *)mc_area_record(MC_AREA_COUNTERS, 0) + stack;
}

/* Where the row of another shard is, or would be. */
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

/* 1 if adding that much would be a turn. */
static inline int mc_counters_would_turn(uint32_t counter, uint64_t amount)
{
    return (counter & ((1u << MC_TURN_SHIFT) - 1)) + amount >= 1u << MC_TURN_SHIFT;
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

/* Counts in a row of the calling thread's own. 0: it would be a turn, so nothing was counted. */
static inline int mc_counters_own_in(struct mc_region_narrow *row, struct mc_amount amount)
{
    if (unlikely(mc_counters_would_turn(mc_peek(&row->usable_in), amount.usable))) return 0;
    mc_counters_add(&row->allocs, amount.count);
    mc_counters_add(&row->bytes_in, amount.requested);
    mc_counters_add(&row->usable_in, amount.usable);
    return 1;
}

static inline int mc_counters_own_out(struct mc_region_narrow *row, struct mc_amount amount,
                                      struct mc_life life)
{
    if (unlikely(mc_counters_would_turn(mc_peek(&row->usable_out), amount.usable))) return 0;
    /* Most do not live for a tick. */
    if (life.lifetimes) {
        if (unlikely(mc_counters_would_turn(mc_peek(&row->lifetimes), life.lifetimes))) return 0;
        mc_counters_add(&row->lifetimes, life.lifetimes);
    }
    mc_counters_add(&row->frees, amount.count);
    mc_counters_add(&row->bytes_out, amount.requested);
    mc_counters_add(&row->usable_out, amount.usable);
    mc_counters_add(&row->temporary, life.temporary);
    return 1;
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
