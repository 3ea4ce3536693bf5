/* SPDX-License-Identifier: MIT */
/* Births and lives: the time that tags keep, in ticks of MC_TAG_BIRTH_NS since births_from_ns, by a
 * clock that costs next to nothing.
 *
 * The clock is the kernel's coarse one, and ticks are those of that clock: births_from_ns is where
 * one begins. So a tick is the seconds times four and a quarter, less the one it all began with. */
#ifndef MC_BIRTHS_H
#define MC_BIRTHS_H

#include "bits.h"
#include "counters.h"
#include "vdso.h"

#define MC_BIRTHS_LAST ((1ull << MC_TAG_BIRTH_BITS) - 1)

/* One more than the clock's tick of births_from_ns; 0: not asked for yet. [shared] the same whoever
 * stores it. */
extern uint64_t mc_births_origin;

static inline uint64_t mc_births_of(const struct timespec *now, uint64_t origin)
{
    uint64_t tick = (uint64_t)now->tv_sec * (1000000000 / MC_TAG_BIRTH_NS) +
                    (uint32_t)now->tv_nsec / (uint32_t)MC_TAG_BIRTH_NS;
    uint64_t birth = tick + 1 - origin;
    return likely(birth < MC_BIRTHS_LAST) ? birth : MC_BIRTHS_LAST;
}

/* Where births_from_ns has to be, in a region that is made now; `boottime_ns` is the time. */
uint64_t mc_births_from(uint64_t boottime_ns);

uint64_t mc_births_now_slow(void);

static inline uint64_t mc_births_now(void)
{
    struct timespec now;
    int (*clock)(clockid_t, struct timespec *) = mc_load(&mc_clock_code);
    if (unlikely(!clock)) return mc_births_now_slow();
    clock(CLOCK_MONOTONIC_COARSE, &now);
    /* After the call, or it would be kept during it. */
    uint64_t origin = mc_load(&mc_births_origin);
    return likely(origin) ? mc_births_of(&now, origin) : mc_births_now_slow();
}

/* How long the object of this tag has lived, and whether that was short. */
static inline struct mc_life mc_births_life(uint64_t tag)
{
    uint64_t birth = mc_tag_birth(tag), end = mc_births_now();
    uint64_t ticks = end > birth ? end - birth : 0;
    return (struct mc_life){ticks, ticks <= MC_TEMPORARY_TICKS};
}

#endif
