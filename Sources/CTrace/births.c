/* SPDX-License-Identifier: MIT */
/* See births.h. */
#include "births.h"

#include "os.h"
#include "region.h"

uint64_t mc_births_now(void)
{
    static uint64_t start_ms; /* [shared] the same within a step, whoever stores it */
    uint64_t ms = mc_os_clock_ms(), start = mc_load(&start_ms);
    if (unlikely(!start)) {
        start = ms - (mc_boottime_ns() - mc_own_region.births_from_ns) / 1000000;
        mc_store(&start_ms, start);
    }
    uint64_t birth = (ms - start) / (MC_TAG_BIRTH_NS / 1000000);
    uint64_t last = (1ull << MC_TAG_BIRTH_BITS) - 1;
    return birth < last ? birth : last;
}

struct mc_life mc_births_life(uint64_t tag)
{
    uint64_t birth = mc_tag_birth(tag), end = mc_births_now();
    uint64_t ticks = end > birth ? end - birth : 0;
    return (struct mc_life){ticks, ticks <= MC_TEMPORARY_TICKS};
}
