/* SPDX-License-Identifier: MIT */
/* trace_bench PATTERN [depth] [threads] [pairs] [same|distinct]: malloc+free pairs under deep
 * backtraces. Run once with a tracer and once without; the difference over the pairs is what the
 * tracer adds. It prints one line of key=value pairs; cpu_ns is the CPU time of the threads that
 * made the pairs, without process start, so a tracer's own start is not in it.
 *
 *     one      the whole chain is called anew for each pair, always the same way
 *     loop     the chain is called once, all pairs are made in its leaf
 *     burst    8 pairs below one outer stack, each through its own last 4 frames
 *     near     one of 2,000 stacks at random for each pair; they differ in the last 11 frames
 *     random   one of 2,000 stacks at random for each pair; they differ in every frame
 *     fresh    each pair from a stack that was never seen, two frames of which are new on the average
 *
 * Sizes go round 16 .. 256; each thread keeps 16 objects live. With 2 threads `same` gives both
 * the same backtraces, `distinct` (the default) each its own. */
#include "chain.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LIVE = 16, STACKS = 2000, BURST = 8, INNER = 4, WARM_UP = 200000, THREADS_MAX = 64 };

struct maker {
    pthread_t thread;
    unsigned index, depth;
    uint64_t pairs, paths, seed; /* `paths` is where this thread's own paths begin */
    const struct pattern *pattern;
    void *live[LIVE];
    uint64_t made, sum, cpu_ns;
};

struct pattern {
    const char *name;
    void (*run)(struct maker *maker);
};

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* One pair: the object made LIVE pairs ago goes, a new one takes its place. */
static uint64_t make_pair(void *context)
{
    struct maker *maker = context;
    void **place = &maker->live[maker->made % LIVE];
    size_t size = 16 + maker->made * 16 % 256;
    if (*place) maker->sum += *(uint64_t *)*place;
    free(*place);
    *place = malloc(size);
    if (!*place) abort();
    *(uint64_t *)*place = maker->made++;
    return 1;
}

static void run_one(struct maker *maker)
{
    struct mc_chain chain = {mix(maker->paths), make_pair, maker};
    for (uint64_t i = 0; i < maker->pairs; i++)
        maker->sum += mc_chain_run(maker->depth, &chain);
}

static uint64_t make_all(void *context)
{
    struct maker *maker = context;
    for (uint64_t i = 0; i < maker->pairs; i++)
        maker->sum += make_pair(maker);
    return 1;
}

static void run_loop(struct maker *maker)
{
    struct mc_chain chain = {mix(maker->paths), make_all, maker};
    maker->sum += mc_chain_run(maker->depth, &chain);
}

/* The leaf of the outer chain: 8 pairs, each through 4 frames chosen by its number. */
static uint64_t make_burst(void *context)
{
    struct maker *maker = context;
    for (unsigned i = 0; i < BURST; i++) {
        struct mc_chain inner = {i, make_pair, maker};
        maker->sum += mc_chain_run(INNER, &inner);
    }
    return 1;
}

static void run_burst(struct maker *maker)
{
    for (uint64_t i = 0; i < maker->pairs; i += BURST) {
        maker->seed = mix(maker->seed + 1);
        struct mc_chain outer = {mix(maker->paths + maker->seed % STACKS), make_burst, maker};
        maker->sum += mc_chain_run(maker->depth - INNER, &outer);
    }
}

static void run_random(struct maker *maker)
{
    for (uint64_t i = 0; i < maker->pairs; i++) {
        maker->seed = mix(maker->seed + 1);
        struct mc_chain chain = {mix(maker->paths + maker->seed % STACKS), make_pair, maker};
        maker->sum += mc_chain_run(maker->depth, &chain);
    }
}

static void run_near(struct maker *maker)
{
    for (uint64_t i = 0; i < maker->pairs; i++) {
        maker->seed = mix(maker->seed + 1);
        uint64_t outer = mix(maker->paths) & ~(uint64_t)2047;
        struct mc_chain chain = {outer | maker->seed % STACKS, make_pair, maker};
        maker->sum += mc_chain_run(maker->depth, &chain);
    }
}

/* The table of stacks grows: what the first sight of one costs, however many there are. */
static void run_fresh(struct maker *maker)
{
    for (uint64_t i = 0; i < maker->pairs; i++) {
        struct mc_chain chain = {maker->paths + ++maker->seed, make_pair, maker};
        maker->sum += mc_chain_run(maker->depth, &chain);
    }
}

static const struct pattern patterns[] = {{"one", run_one},       {"loop", run_loop},
                                          {"burst", run_burst},   {"near", run_near},
                                          {"random", run_random}, {"fresh", run_fresh}};

static uint64_t cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *maker_main(void *argument)
{
    struct maker *maker = argument;
    /* A warm-up of every stack: first sight of a stack is a cost of its own, counted apart. Both rounds are
     * run from one place, or they would have no stack in common. */
    uint64_t pairs = maker->pairs;
    for (volatile int round = 0; round < 2; round++) {
        maker->pairs = round || pairs < WARM_UP ? pairs : WARM_UP;
        uint64_t began = cpu_now();
        maker->pattern->run(maker);
        maker->cpu_ns = cpu_now() - began;
    }
    for (unsigned i = 0; i < LIVE; i++)
        free(maker->live[i]);
    return NULL;
}

static const struct pattern *find(const char *name)
{
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
        if (!strcmp(patterns[i].name, name)) return &patterns[i];
    return NULL;
}

static int usage(void)
{
    fprintf(
        stderr,
        "usage: trace_bench one|loop|burst|near|random|fresh [depth %d..%d] [threads 1..%d] [pairs]"
        " [same|distinct]\n",
        INNER + 1, MC_CHAIN_DEPTH_MAX, THREADS_MAX);
    return 64;
}

int main(int argc, char **argv)
{
    static struct maker makers[THREADS_MAX];
    const struct pattern *pattern = argc > 1 ? find(argv[1]) : NULL;
    int depth = argc > 2 ? atoi(argv[2]) : 30, threads = argc > 3 ? atoi(argv[3]) : 1;
    uint64_t pairs = argc > 4 ? strtoull(argv[4], NULL, 10) : 1000000, cpu = 0, sum = 0;
    bool same = argc > 5 && !strcmp(argv[5], "same");
    if (!pattern || depth <= INNER || depth > MC_CHAIN_DEPTH_MAX || threads < 1 ||
        threads > THREADS_MAX || !pairs)
        return usage();
    for (int i = 0; i < threads; i++)
        makers[i] = (struct maker){.index = (unsigned)i,
                                   .depth = (unsigned)depth,
                                   .pairs = pairs / (unsigned)threads,
                                   .paths = same ? 0 : (uint64_t)i << 32,
                                   .seed = (uint64_t)i,
                                   .pattern = pattern};
    if (threads == 1) maker_main(&makers[0]);
    for (int i = 0; threads > 1 && i < threads; i++)
        if (pthread_create(&makers[i].thread, NULL, maker_main, &makers[i])) return 1;
    for (int i = 0; i < threads; i++) {
        if (threads > 1) pthread_join(makers[i].thread, NULL);
        cpu += makers[i].cpu_ns;
        sum += makers[i].sum;
    }
    pairs = pairs / (unsigned)threads * (unsigned)threads;
    printf("pattern=%s depth=%d threads=%d stacks=%s pairs=%" PRIu64 " cpu_ns=%" PRIu64
           " ns_per_pair=%.1f check=%016" PRIx64 "\n",
           pattern->name, depth, threads, same ? "same" : "distinct", pairs, cpu,
           (double)cpu / (double)pairs, sum);
    return 0;
}
