/* SPDX-License-Identifier: MIT */
/* See shard.h. */
#include "shard.h"

uint32_t mc_shards_generation = MC_SHARDS_NONE;
__thread struct mc_shard mc_shard;

void mc_shard_take(unsigned thread)
{
    uint32_t generation = mc_load_acquire(&mc_shards_generation); /* pairs with begin's release */
    if (generation == MC_SHARDS_NONE || !mc_counters_has_shard(thread)) return;
    mc_store(&mc_shard.thread, thread);
    mc_store(&mc_shard.rows, mc_counters_row(thread, 0));
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* before the generation, for handlers */
    mc_store(&mc_shard.generation, generation);
}

/* Only one thread makes areas, and in a process of which others may still be in those before. */
void mc_shards_begin(void)
{
    static uint32_t last = MC_SHARDS_FIRST - 1;
    mc_store_release(&mc_shards_generation, ++last);
}

void mc_shards_end(void)
{
    mc_store(&mc_shards_generation, MC_SHARDS_NONE);
}
