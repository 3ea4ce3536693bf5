/* SPDX-License-Identifier: MIT */
/* See births.h. */
#include "births.h"

#include "region.h"

uint64_t mc_births_origin;

static uint64_t coarse_ns(struct timespec *now)
{
    mc_clock(CLOCK_MONOTONIC_COARSE, now);
    return (uint64_t)now->tv_sec * 1000000000 + (uint64_t)now->tv_nsec;
}

uint64_t mc_births_from(uint64_t boottime_ns)
{
    struct timespec now = {0};
    return boottime_ns - coarse_ns(&now) % MC_TAG_BIRTH_NS;
}

/* The two clocks are not read at once, and one is coarse: to the nearest tick. */
uint64_t mc_births_now_slow(void)
{
    struct timespec now = {0};
    uint64_t origin = mc_load(&mc_births_origin), ns = coarse_ns(&now);
    if (!origin) {
        uint64_t passed = mc_boottime_ns() - mc_own_region.births_from_ns;
        origin = (ns - passed + MC_TAG_BIRTH_NS / 2) / MC_TAG_BIRTH_NS + 1;
        mc_store(&mc_births_origin, origin);
    }
    return mc_births_of(&now, origin);
}
