/* SPDX-License-Identifier: MIT */
/* In which order objects are freed: last first, first first, at random.
 *
 * Free lists are stacks, so LIFO is the kindest order, FIFO visits every slot of a class in turn
 * and a random order scatters the lists. Sizes are 16 to 256 bytes. `random-100k`
 * and `random-1m` keep more objects live than the caches hold: here locality, not instructions, decides. */
#include "bench.h"

enum { LIVE = 1000, SIZE_LOW = 16, SIZE_HIGH = 256 };

struct orders {
    struct mc_bench *bench;
    uint64_t total;
};

static uint64_t lifo_work(void *context, unsigned index)
{
    const struct orders *orders = context;
    uint64_t rounds = mc_share(orders->total, orders->bench->threads, index) / LIVE + 1;
    uint64_t seed = mc_seed(index), sum = 0;
    void *objects[LIVE];
    while (rounds--) {
        for (unsigned i = 0; i < LIVE; i++)
            objects[i] = mc_object_new(mc_between(&seed, SIZE_LOW, SIZE_HIGH), i);
        for (unsigned i = LIVE; i-- > 0;)
            sum += mc_object_end(objects[i]);
    }
    return sum;
}

static uint64_t fifo_work(void *context, unsigned index)
{
    const struct orders *orders = context;
    uint64_t count = mc_share(orders->total, orders->bench->threads, index);
    uint64_t seed = mc_seed(index), sum = 0;
    void *objects[LIVE] = {NULL};
    unsigned at = 0;
    for (uint64_t i = 0; i < count; i++) {
        sum += mc_object_end(objects[at]);
        objects[at] = mc_object_new(mc_between(&seed, SIZE_LOW, SIZE_HIGH), (uint32_t)i);
        if (++at == LIVE) at = 0;
    }
    for (unsigned i = 0; i < LIVE; i++)
        sum += mc_object_end(objects[i]);
    return sum;
}

static uint64_t random_work(void *context, unsigned index)
{
    const struct orders *orders = context;
    uint64_t count = mc_share(orders->total, orders->bench->threads, index);
    uint64_t seed = mc_seed(index), sum = 0;
    void *objects[LIVE] = {NULL};
    for (uint64_t i = 0; i < count; i++) {
        unsigned at = mc_below(&seed, LIVE);
        sum += mc_object_end(objects[at]);
        objects[at] = mc_object_new(mc_between(&seed, SIZE_LOW, SIZE_HIGH), (uint32_t)i);
    }
    for (unsigned i = 0; i < LIVE; i++)
        sum += mc_object_end(objects[i]);
    return sum;
}

static uint64_t run(struct mc_bench *bench, uint64_t count,
                    uint64_t (*work)(void *context, unsigned index))
{
    struct orders orders = {.bench = bench, .total = mc_scaled(bench, count)};
    bench->ops = orders.total;
    return mc_in_threads(bench->threads, work, &orders);
}

uint64_t mc_bench_lifo(struct mc_bench *bench)
{
    return run(bench, 10000000, lifo_work);
}
uint64_t mc_bench_fifo(struct mc_bench *bench)
{
    return run(bench, 20000000, fifo_work);
}
uint64_t mc_bench_random_order(struct mc_bench *bench)
{
    return run(bench, 15000000, random_work);
}

static uint64_t replace(struct mc_bench *bench, unsigned live, uint64_t count)
{
    uint64_t seed = mc_seed(0), sum = 0;
    void **objects = mc_need(calloc(live, sizeof(*objects)));
    bench->ops = mc_scaled(bench, count);
    for (uint64_t i = 0; i < bench->ops; i++) {
        unsigned at = mc_below(&seed, live);
        sum += mc_object_end(objects[at]);
        objects[at] = mc_object_new(mc_between(&seed, SIZE_LOW, SIZE_HIGH), (uint32_t)i);
    }
    for (unsigned i = 0; i < live; i++)
        sum += mc_object_end(objects[i]);
    free(objects);
    return sum;
}

uint64_t mc_bench_random_many(struct mc_bench *bench)
{
    return replace(bench, 100000, 4000000);
}

uint64_t mc_bench_random_million(struct mc_bench *bench)
{
    return replace(bench, 1000000, 40000000);
}
