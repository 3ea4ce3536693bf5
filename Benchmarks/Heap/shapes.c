/* SPDX-License-Identifier: MIT */
/* The other entry points: calloc, realloc, posix_memalign.
 *
 * calloc reads what it got, so a heap that forgets to zero is seen at once. realloc grows arrays
 * by half, as containers do, and one array by a fixed step, as a log does; a heap that can extend
 * in place or move pages (mremap) shows it there. */
#include "bench.h"

#include <string.h>

enum { PAGE = 4096, GROWN_SMALL = 256 << 10, GROWN_LARGE = 64 << 20, STEP = 64 << 10, KEPT = 64 };

struct shapes {
    struct mc_bench *bench;
    uint64_t total;
};

static uint64_t read_zeros(const unsigned char *p, size_t size, size_t stride)
{
    for (size_t i = 0; i < size; i += stride)
        if (p[i]) mc_bench_fail("calloc returned memory that is not zero");
    if (p[size - 1]) mc_bench_fail("calloc returned memory that is not zero");
    return size;
}

static uint64_t calloc_work(void *context, unsigned index)
{
    const struct shapes *shapes = context;
    uint64_t count = mc_share(shapes->total, shapes->bench->threads, index);
    uint64_t seed = mc_seed(index), sum = 0;
    unsigned char *kept[KEPT] = {NULL};
    for (uint64_t i = 0; i < count; i++) {
        size_t size = (size_t)16 << mc_below(&seed, 9);
        unsigned at = (unsigned)(i % KEPT);
        free(kept[at]);
        kept[at] = mc_need(calloc(1, size));
        sum += read_zeros(kept[at], size, 64);
        memset(kept[at], 0xff, size);
    }
    for (unsigned i = 0; i < KEPT; i++)
        free(kept[i]);
    return sum;
}

static uint64_t realloc_work(void *context, unsigned index)
{
    const struct shapes *shapes = context;
    uint64_t count = mc_share(shapes->total, shapes->bench->threads, index);
    uint64_t seed = mc_seed(index), sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        size_t size = 16, limit = GROWN_SMALL >> mc_below(&seed, 10);
        uint64_t *array = mc_need(malloc(size));
        array[0] = i;
        while (size < limit) {
            array[size / 8 - 1] = i;
            size_t grown = (size + size / 2 + 15) & ~(size_t)15;
            array = mc_need(realloc(array, grown));
            if (array[size / 8 - 1] != i) mc_bench_fail("realloc lost bytes");
            size = grown;
        }
        sum += array[0] + size;
        free(array);
    }
    return sum;
}

static uint64_t aligned_work(void *context, unsigned index)
{
    const struct shapes *shapes = context;
    uint64_t count = mc_share(shapes->total, shapes->bench->threads, index);
    uint64_t seed = mc_seed(index), sum = 0;
    void *kept[KEPT] = {NULL};
    for (uint64_t i = 0; i < count; i++) {
        size_t align = (size_t)32 << mc_below(&seed, 8);
        uint32_t size = mc_between(&seed, 16, 1024);
        unsigned at = (unsigned)(i % KEPT);
        sum += mc_object_end(kept[at]);
        if (posix_memalign(&kept[at], align, size)) mc_bench_fail("posix_memalign failed");
        if ((uintptr_t)kept[at] & (align - 1)) mc_bench_fail("posix_memalign is not aligned");
        mc_object_stamp(kept[at], size, (uint32_t)i);
    }
    for (unsigned i = 0; i < KEPT; i++)
        sum += mc_object_end(kept[i]);
    return sum;
}

static uint64_t run(struct mc_bench *bench, uint64_t count,
                    uint64_t (*work)(void *context, unsigned index))
{
    struct shapes shapes = {.bench = bench, .total = mc_scaled(bench, count)};
    bench->ops = shapes.total;
    return mc_in_threads(bench->threads, work, &shapes);
}

uint64_t mc_bench_calloc(struct mc_bench *bench)
{
    return run(bench, 4000000, calloc_work);
}
uint64_t mc_bench_realloc(struct mc_bench *bench)
{
    return run(bench, 2000000, realloc_work);
}
uint64_t mc_bench_aligned(struct mc_bench *bench)
{
    return run(bench, 3000000, aligned_work);
}

uint64_t mc_bench_calloc_large(struct mc_bench *bench)
{
    uint64_t count = mc_scaled(bench, 8000), seed = mc_seed(0), sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        size_t size = (size_t)(256 << 10) << mc_below(&seed, 5);
        unsigned char *p = mc_need(calloc(size / PAGE, PAGE));
        sum += read_zeros(p, size, 64 * PAGE);
        p[0] = p[size / 2] = p[size - 1] = 0xff;
        free(p);
    }
    bench->ops = count;
    return sum;
}

uint64_t mc_bench_realloc_large(struct mc_bench *bench)
{
    uint64_t rounds = mc_scaled(bench, 8), sum = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        unsigned char *array = NULL;
        for (size_t size = STEP; size <= GROWN_LARGE; size += STEP) {
            array = mc_need(realloc(array, size));
            memset(array + size - STEP, (int)(size / STEP & 0xff), STEP);
        }
        for (size_t at = STEP; at <= GROWN_LARGE; at += STEP)
            if (array[at - 1] != (at / STEP & 0xff)) mc_bench_fail("realloc lost bytes");
        sum += array[STEP];
        free(array);
    }
    bench->ops = rounds * (GROWN_LARGE / STEP);
    return sum;
}
