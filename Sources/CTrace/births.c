/* SPDX-License-Identifier: MIT */
/* See births.h. */
#include "births.h"

#include "region.h"

struct mc_births mc_births;

static uint64_t coarse_ns(void)
{
    struct timespec now = {0};
    mc_clock(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t mc_births_from(uint64_t boottime_ns)
{
    return boottime_ns - coarse_ns() % MC_TAG_BIRTH_NS;
}

/* Where the kernel has no code for it. */
static int ask(clockid_t clock, struct timespec *now)
{
    mc_clock(clock, now);
    return 0;
}

/* The two clocks are not read at once, and one is coarse: to the nearest tick. */
void mc_births_make(void)
{
    if (mc_load_acquire(&mc_births.clock)) return;
    uint64_t ns = coarse_ns(), passed = mc_boottime_ns() - mc_own_region.births_from_ns;
    int (*code)(clockid_t, struct timespec *) = mc_load(&mc_clock_code);
    mc_store(&mc_births.origin, (ns - passed + MC_TAG_BIRTH_NS / 2) / MC_TAG_BIRTH_NS);
    mc_store_release(&mc_births.clock, code ? code : ask);
}
