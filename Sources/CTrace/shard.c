/* SPDX-License-Identifier: MIT */
/* See shard.h. */
#include "shard.h"

#include <string.h>

uint32_t mc_shards_generation = MC_SHARDS_NONE;
__thread struct mc_shard mc_shard;

/* The thread number that has shard i + 1; taken in order, so behind the first 0 there is none. */
MC_TABLE static uint32_t owners[MC_REGION_SHARDS - 1]; /* [shared] */

static uint32_t first_of(unsigned shard)
{
    return (uint32_t)(mc_counters_row(shard, 0) - (struct mc_region_narrow *)(void *)mc_areas);
}

unsigned mc_shard_own(void)
{
    return mc_shard_is_known() ? (mc_shard.first - first_of(0)) / (first_of(1) - first_of(0)) : 0;
}

/* The number's shard, or the next that is nobody's; 0 if there is none for it. */
static unsigned claim(uint32_t thread)
{
    int busy = mc_shard.counted >= MC_SHARD_AFTER;
    for (unsigned i = 0; i + 1 < mc_area_runs; i++) {
        uint32_t owner = mc_load(&owners[i]);
        int may = !owner && (busy || i == 0);
        if ((may && mc_swap_if(&owners[i], &owner, thread)) || owner == thread) return i + 1;
        if (!owner) return 0;
    }
    return 0;
}

/* Before anything is counted there: a reader looks no further. */
static void note_used(uint32_t shards)
{
    uint32_t seen = mc_load(&mc_own_region.shards);
    while (seen < shards && !mc_swap_if(&mc_own_region.shards, &seen, shards)) {
    }
}

int mc_shard_take(unsigned thread)
{
    uint32_t generation = mc_load_acquire(&mc_shards_generation); /* pairs with begin's release */
    if (generation == MC_SHARDS_NONE || !thread) return 0;
    unsigned shard = claim(thread);
    if (!shard) {
        if (mc_shard.counted < MC_SHARD_AFTER) mc_shard.counted++;
        return 0;
    }
    note_used(shard + 1);
    mc_store(&mc_shard.first, first_of(shard));
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* before the generation, for handlers */
    mc_store(&mc_shard.generation, generation);
    return 1;
}

/* Only one thread makes areas, and in a process of which others may still be in those before. */
void mc_shards_begin(void)
{
    static uint32_t last = MC_SHARDS_FIRST - 1;
    memset(owners, 0, sizeof(owners));
    mc_store_release(&mc_shards_generation, ++last);
}

void mc_shards_end(void)
{
    mc_store(&mc_shards_generation, MC_SHARDS_NONE);
}
