/* SPDX-License-Identifier: MIT */
/* False sharing: do objects of different threads end up on one cache line?
 *
 * After E. Berger and others, "Hoard: A Scalable Memory Allocator for Multithreaded Applications",
 * ASPLOS 2000. cache-scratch is passive false sharing: main allocates one small object for each
 * thread, next to each other; each thread frees its own and allocates again. A heap that hands the
 * same slot back makes the threads fight over a line for ever. cache-thrash is active: threads only
 * allocate for themselves. Both write the object many times between malloc and free. */
#include "bench.h"

enum { SIZE = 8, WRITES = 100, THREADS_MAX = 256 };

struct sharing {
    struct mc_bench *bench;
    uint64_t total;
    void *first[THREADS_MAX];
};

static uint64_t sharing_work(void *context, unsigned index)
{
    struct sharing *sharing = context;
    uint64_t count = mc_share(sharing->total, sharing->bench->threads, index), sum = 0;
    free(sharing->first[index]);
    for (uint64_t i = 0; i < count; i++) {
        volatile unsigned char *p = mc_need(malloc(SIZE));
        p[0] = 0;
        for (unsigned k = 0; k < WRITES; k++)
            p[k % SIZE] = (unsigned char)(p[0] + 1);
        sum += p[0];
        free((void *)p);
    }
    return sum;
}

static uint64_t run(struct mc_bench *bench, bool handed)
{
    struct sharing sharing = {.bench = bench, .total = mc_scaled(bench, 2500000)};
    for (unsigned i = 0; handed && i < bench->threads; i++)
        sharing.first[i] = mc_need(malloc(SIZE));
    bench->ops = sharing.total;
    return mc_in_threads(bench->threads, sharing_work, &sharing);
}

uint64_t mc_bench_cache_scratch(struct mc_bench *bench)
{
    return run(bench, true);
}
uint64_t mc_bench_cache_thrash(struct mc_bench *bench)
{
    return run(bench, false);
}
