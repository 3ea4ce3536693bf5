/* SPDX-License-Identifier: MIT */
/* malloc(SIZE) and free of it, nothing between but one write: the shortest way through a heap.
 *
 * The micro loop that every allocator's paper starts with. One slot goes back and forth, so it
 * measures instructions, not memory. From 64 KiB on the last page is written too, as a program
 * that asked for so much would; a heap that returns such ranges at once pays here. pair-16-full
 * fills all 16 bytes: a heap that reads its own mark there, right after, waits for those writes. */
#include "bench.h"

enum { LARGE = 64 << 10 };

struct pairs {
    struct mc_bench *bench;
    size_t size;
    uint64_t total;
};

static uint64_t pairs_work(void *context, unsigned index)
{
    const struct pairs *pairs = context;
    uint64_t count = mc_share(pairs->total, pairs->bench->threads, index);
    size_t size = pairs->size;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        unsigned char *p = mc_need(malloc(size));
        p[0] = (unsigned char)i;
        if (size >= LARGE) p[size - 1] = 1;
        sum += p[0];
        free(p);
    }
    return sum;
}

/* Bytes, not words: the last ones are smaller than what any heap reads back. */
static uint64_t full_work(void *context, unsigned index)
{
    const struct pairs *pairs = context;
    uint64_t count = mc_share(pairs->total, pairs->bench->threads, index), sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        volatile unsigned char *p = mc_need(malloc(16));
        for (unsigned k = 0; k < 16; k++)
            p[k] = (unsigned char)i;
        sum += p[15];
        free((void *)p);
    }
    return sum;
}

static uint64_t run(struct mc_bench *bench, size_t size, uint64_t count)
{
    struct pairs pairs = {.bench = bench, .size = size, .total = mc_scaled(bench, count)};
    bench->ops = pairs.total;
    mc_in_threads(bench->threads, pairs_work, &pairs);
    return size;
}

uint64_t mc_bench_pair_16_full(struct mc_bench *bench)
{
    struct pairs pairs = {.bench = bench, .total = mc_scaled(bench, 30000000)};
    bench->ops = pairs.total;
    mc_in_threads(bench->threads, full_work, &pairs);
    return 16;
}

uint64_t mc_bench_pair_16(struct mc_bench *bench)
{
    return run(bench, 16, 40000000);
}
uint64_t mc_bench_pair_64(struct mc_bench *bench)
{
    return run(bench, 64, 40000000);
}
uint64_t mc_bench_pair_256(struct mc_bench *bench)
{
    return run(bench, 256, 40000000);
}
uint64_t mc_bench_pair_1k(struct mc_bench *bench)
{
    return run(bench, 1024, 40000000);
}
uint64_t mc_bench_pair_8k(struct mc_bench *bench)
{
    return run(bench, 8192, 10000000);
}
uint64_t mc_bench_pair_64k(struct mc_bench *bench)
{
    return run(bench, 65536, 10000000);
}
uint64_t mc_bench_pair_1m(struct mc_bench *bench)
{
    return run(bench, 1 << 20, 1000000);
}
