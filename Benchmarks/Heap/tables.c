/* SPDX-License-Identifier: MIT */
/* Programs that are only tables of objects: fixed shapes used by several libcs and vendors.
 *
 * simple-1600: after glibc's bench-malloc-simple: allocate 1,600 objects of one size, free them in
 * glibc-thread: after glibc's bench-malloc-thread: 1,024 objects a thread, replaced at random, of
 * 8 bytes to 32 KiB, small ones exponentially more frequent.
 * sizes are exponentially more frequent (8 bytes to 32 KiB).
 * alloc-test: after the description of node-dcpp's alloc-test: a large table, a random cell is
 * emptied when full and filled when empty; a few cells are hit far more often than others.
 * sh6, sh8: after the descriptions of MicroQuill's SmartHeap tests: batches of mixed sizes below
 * 1,000 bytes, part freed in the order made, part in reverse, part kept for the next rounds. */
#include "bench.h"

#include <math.h>
#include <stdatomic.h>

enum {
    SIMPLE = 1600,
    WORKING = 1024,
    SIZES = 4096,
    CELLS = 1 << 15,
    SH_BATCH = 400,
    SH_KEPT = 8,
    SH_SHARED = 16,
};

struct tables {
    struct mc_bench *bench;
    uint64_t total;
    uint32_t size[SIZES];                         /* [const] */
    unsigned batch;                               /* [const] */
    bool exchange;                                /* [const] */
    _Atomic(struct sh_batch *) shared[SH_SHARED]; /* [shared] exchanged whole */
};

uint64_t mc_bench_simple(struct mc_bench *bench)
{
    uint64_t rounds = mc_scaled(bench, 400), sum = 0;
    void *objects[SIMPLE];
    for (uint64_t round = 0; round < rounds; round++) {
        for (uint32_t size = 16; size <= 4096; size *= 4) {
            for (unsigned i = 0; i < SIMPLE; i++)
                objects[i] = mc_object_new(size, i);
            for (unsigned i = 0; i < SIMPLE; i++)
                sum += mc_object_end(objects[i]);
        }
    }
    bench->ops = rounds * 5 * SIMPLE;
    return sum;
}

static uint64_t glibc_thread_work(void *context, unsigned index)
{
    const struct tables *tables = context;
    uint64_t count = mc_share(tables->total, tables->bench->threads, index);
    uint64_t seed = mc_seed(index), sum = 0;
    void *objects[WORKING] = {NULL};
    for (uint64_t i = 0; i < count; i++) {
        unsigned at = mc_below(&seed, WORKING);
        sum += mc_object_end(objects[at]);
        objects[at] = mc_object_new(tables->size[mc_below(&seed, SIZES)], (uint32_t)i);
    }
    for (unsigned i = 0; i < WORKING; i++)
        sum += mc_object_end(objects[i]);
    return sum;
}

uint64_t mc_bench_glibc_thread(struct mc_bench *bench)
{
    const double low = 8, high = 32 << 10;
    struct tables tables = {.bench = bench, .total = mc_scaled(bench, 20000000)};
    for (unsigned i = 0; i < SIZES; i++) {
        /* Inverse of the cumulative distribution of e^-x on [0, 10], spread over low..high. */
        double u = (i + 0.5) / SIZES, x = -log(1 - u * (1 - exp(-10)));
        tables.size[i] = (uint32_t)(low * exp(x / 10 * log(high / low)));
    }
    bench->ops = tables.total;
    return mc_in_threads(bench->threads, glibc_thread_work, &tables);
}

static uint64_t alloc_test_work(void *context, unsigned index)
{
    const struct tables *tables = context;
    uint64_t count = mc_share(tables->total, tables->bench->threads, index);
    uint64_t seed = mc_seed(index), sum = 0;
    void **cells = mc_need(calloc(CELLS, sizeof(*cells)));
    for (uint64_t i = 0; i < count; i++) {
        /* The product of two draws favours low cells, as a Pareto law does. */
        uint64_t r = mc_random(&seed);
        uint32_t at = (uint32_t)((r >> 49) * (r >> 34 & 0x7fff) >> 15);
        if (cells[at]) {
            sum += mc_object_end(cells[at]);
            cells[at] = NULL;
        } else {
            uint32_t size = 8 + (uint32_t)(r & 0x3ff) % (16u << (r >> 10 & 7));
            cells[at] = mc_object_new(size, (uint32_t)i);
        }
    }
    for (unsigned i = 0; i < CELLS; i++)
        sum += mc_object_end(cells[i]);
    free(cells);
    return sum;
}

uint64_t mc_bench_alloc_test(struct mc_bench *bench)
{
    struct tables tables = {.bench = bench, .total = mc_scaled(bench, 16000000)};
    bench->ops = tables.total / 2;
    return mc_in_threads(bench->threads, alloc_test_work, &tables);
}

struct sh_batch {
    unsigned count;
    void *object[];
};

static struct sh_batch *sh_new(uint64_t *seed, unsigned count)
{
    struct sh_batch *batch = mc_need(malloc(sizeof(*batch) + count * sizeof(void *)));
    batch->count = count;
    for (unsigned i = 0; i < count; i++) {
        /* Small sizes come more often: a limit is drawn first, then the size below it. */
        uint32_t limit = 16u << mc_below(seed, 7);
        batch->object[i] = mc_object_new(8 + mc_below(seed, limit > 992 ? 992 : limit), i);
    }
    return batch;
}

static uint64_t sh_end(struct sh_batch *batch)
{
    uint64_t sum = 0;
    if (!batch) return 0;
    unsigned half = batch->count / 2;
    for (unsigned i = 0; i < half; i++)
        sum += mc_object_end(batch->object[i]);
    for (unsigned i = batch->count; i-- > half;)
        sum += mc_object_end(batch->object[i]);
    free(batch);
    return sum;
}

static uint64_t sh_work(void *context, unsigned index)
{
    struct tables *tables = context;
    uint64_t rounds = mc_share(tables->total, tables->bench->threads, index) / tables->batch + 1;
    uint64_t seed = mc_seed(index), sum = 0;
    struct sh_batch *kept[SH_KEPT] = {NULL};
    for (uint64_t i = 0; i < rounds; i++) {
        struct sh_batch *batch = sh_new(&seed, tables->batch);
        uint32_t luck = mc_below(&seed, 4);
        if (luck == 0) {
            sum += sh_end(batch);
        } else if (luck == 1 && tables->exchange) {
            sum += sh_end(atomic_exchange(&tables->shared[i % SH_SHARED], batch));
        } else {
            sum += sh_end(kept[i % SH_KEPT]);
            kept[i % SH_KEPT] = batch;
        }
    }
    for (unsigned i = 0; i < SH_KEPT; i++)
        sum += sh_end(kept[i]);
    return sum;
}

static uint64_t sh_run(struct mc_bench *bench, unsigned batch, bool exchange)
{
    struct tables tables = {
        .bench = bench, .total = mc_scaled(bench, 8000000), .batch = batch, .exchange = exchange};
    uint64_t sum = mc_in_threads(bench->threads, sh_work, &tables);
    for (unsigned i = 0; i < SH_SHARED; i++)
        sum += sh_end(atomic_load(&tables.shared[i]));
    bench->ops = tables.total;
    return sum;
}

uint64_t mc_bench_sh6(struct mc_bench *bench)
{
    return sh_run(bench, SH_BATCH, false);
}
uint64_t mc_bench_sh8(struct mc_bench *bench)
{
    return sh_run(bench, 5 * SH_BATCH, true);
}
