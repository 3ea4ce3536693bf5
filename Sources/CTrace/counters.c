/* SPDX-License-Identifier: MIT */
/* See counters.h. */
#include "counters.h"

static struct mc_region_counters *row(unsigned shard, uint32_t stack)
{
    uint64_t capacity = mc_own_region.areas[MC_AREA_COUNTERS].capacity;
    return mc_area_record(MC_AREA_COUNTERS, shard * capacity + stack);
}

int mc_counters_ensure(uint32_t stack)
{
    return mc_area_ensure(row(0, stack), sizeof(struct mc_region_counters));
}

static void add(uint64_t *field, uint64_t value, int alone)
{
    if (alone)
        mc_store(field, *field + value);
    else
        mc_add(field, value);
}

/* The thread's own row if it has a shard for itself, else the shared one; *alone says which. */
static struct mc_region_counters *row_of(unsigned thread, uint32_t stack, int *alone)
{
    *alone = 0;
    if (thread > 0 && thread < MC_REGION_SHARDS) {
        struct mc_region_counters *own = row(thread, stack);
        *alone = mc_area_ensure(own, sizeof(*own));
        if (*alone) return own;
    }
    return row(0, stack);
}

void mc_counters_in(unsigned thread, uint32_t stack, uint64_t requested, uint64_t usable)
{
    int alone;
    struct mc_region_counters *counters = row_of(thread, stack, &alone);
    add(&counters->allocs, 1, alone);
    add(&counters->bytes_in, requested, alone);
    add(&counters->usable_in, usable, alone);
}

void mc_counters_out(unsigned thread, uint32_t stack, uint64_t requested, uint64_t usable)
{
    int alone;
    struct mc_region_counters *counters = row_of(thread, stack, &alone);
    add(&counters->frees, 1, alone);
    add(&counters->bytes_out, requested, alone);
    add(&counters->usable_out, usable, alone);
}
