/* SPDX-License-Identifier: MIT */
/* A server: objects replaced at random, inherited by the thread that comes after.
 *
 * After P. Larson and M. Krishnan, "Memory Allocation for Long-Running Server Applications",
 * ISMM 1998: each thread owns a set of objects, frees a random one and allocates another of random
 * size in its place; after some rounds it ends and a new thread goes on with its set, so most
 * objects are freed by a thread that did not allocate them. */
#include "bench.h"

#include <pthread.h>

enum { OBJECTS = 1000, SIZE_LOW = 8, SIZE_HIGH = 1000, GENERATIONS = 25 };

struct larson {
    struct mc_bench *bench;
    uint64_t total;
};

struct set {
    void *object[OBJECTS];
    uint64_t seed, rounds, sum;
};

static void *generation(void *argument)
{
    struct set *set = argument;
    for (uint64_t i = 0; i < set->rounds; i++) {
        unsigned at = mc_below(&set->seed, OBJECTS);
        set->sum += mc_object_end(set->object[at]);
        set->object[at] = mc_object_new(mc_between(&set->seed, SIZE_LOW, SIZE_HIGH), (uint32_t)i);
    }
    return NULL;
}

static uint64_t larson_work(void *context, unsigned index)
{
    const struct larson *larson = context;
    struct set *set = mc_need(calloc(1, sizeof(*set)));
    set->seed = mc_seed(index);
    set->rounds = mc_share(larson->total, larson->bench->threads, index) / GENERATIONS + 1;
    for (unsigned i = 0; i < GENERATIONS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, generation, set))
            mc_bench_fail("no thread could be started");
        pthread_join(thread, NULL);
    }
    for (unsigned i = 0; i < OBJECTS; i++)
        set->sum += mc_object_end(set->object[i]);
    uint64_t sum = set->sum;
    free(set);
    return sum;
}

uint64_t mc_bench_larson(struct mc_bench *bench)
{
    struct larson larson = {.bench = bench, .total = mc_scaled(bench, 20000000)};
    bench->ops = larson.total;
    return mc_in_threads(bench->threads, larson_work, &larson);
}
