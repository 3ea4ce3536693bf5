/* SPDX-License-Identifier: MIT */
/* Generations of threads that allocate at random and pass objects through a shared table.
 *
 * After the description of the mstress test of mimalloc-bench (D. Leijen): in each round all
 * threads start, build up objects of mixed sizes, keep some to the end of the round, free some at
 * random, and exchange some with a common table from which any thread, also one of a later
 * generation, frees them. Sizes: mostly small, one in a hundred up to 16 KiB, one in a thousand up
 * to 256 KiB. */
#include "bench.h"

#include <stdatomic.h>

enum { TABLE = 1000, ROUNDS = 20, WORKING = 4096 };

struct mstress {
    struct mc_bench *bench;
    uint64_t per_round;
    unsigned round;
    _Atomic(void *) table[TABLE];
};

static uint32_t object_size(uint64_t *seed)
{
    uint32_t luck = mc_below(seed, 1000);
    if (luck == 0) return mc_between(seed, 16 << 10, 256 << 10);
    if (luck < 10) return mc_between(seed, 1 << 10, 16 << 10);
    return mc_between(seed, 8, 512);
}

static uint64_t mstress_work(void *context, unsigned index)
{
    struct mstress *mstress = context;
    unsigned threads = mstress->bench->threads;
    uint64_t count = mc_share(mstress->per_round, threads, index), sum = 0;
    uint64_t seed = mc_seed(mstress->round * 256 + index);
    void **working = mc_need(calloc(WORKING, sizeof(*working)));
    for (uint64_t i = 0; i < count; i++) {
        uint32_t size = object_size(&seed), at = mc_below(&seed, WORKING);
        sum += mc_object_end(working[at]);
        working[at] = mc_object_new(size, (uint32_t)i);
        if (mc_below(&seed, 100) < 25) {
            uint32_t with = mc_below(&seed, TABLE);
            working[at] = atomic_exchange(&mstress->table[with], working[at]);
        }
    }
    for (unsigned i = 0; i < WORKING; i++)
        sum += mc_object_end(working[i]);
    free(working);
    return sum;
}

uint64_t mc_bench_mstress(struct mc_bench *bench)
{
    struct mstress *mstress = mc_need(calloc(1, sizeof(*mstress)));
    uint64_t sum = 0;
    mstress->bench = bench;
    mstress->per_round = mc_scaled(bench, 10000000) / ROUNDS + 1;
    for (unsigned i = 0; i < ROUNDS; i++) {
        mstress->round = i;
        sum += mc_in_threads(bench->threads, mstress_work, mstress);
    }
    for (unsigned i = 0; i < TABLE; i++)
        sum += mc_object_end(atomic_load(&mstress->table[i]));
    free(mstress);
    bench->ops = mc_scaled(bench, 10000000);
    return sum;
}
