/* SPDX-License-Identifier: MIT */
/* What a heap costs in memory, and what it gives back.
 *
 * fragment: objects with random sizes and lifetimes, drawn from mixtures of exponential laws, in
 * phases that shift the sizes, as a long-running program does; RSS over live bytes is sampled
 * through the run and averaged. footprint: nothing is freed, so what stands beside the live bytes
 * is rounding and metadata. giveback: everything is freed but one object in a thousand, then light
 * work goes on for a while; what is still resident is what an idle program keeps from others.
 * large: after mimalloc-bench's malloc-large: objects of 5 to 25 MiB, replaced at random.
 * mleak: after the test of that name: threads that start, allocate, free half and end. */
#include "bench.h"

#include <math.h>
#include <string.h>
#include <time.h>

enum {
    WHEEL = 1 << 18, /* steps ahead that a lifetime may reach */
    PHASES = 6,
    BIRTHS = 8,   /* objects made in a step */
    SAMPLES = 16, /* readings of RSS in a phase */
    MIB = 1 << 20,
    LARGE_LIVE = 20,
    LEFT = 64,
};

struct mortal {
    struct mc_object object;
    struct mortal *next; /* dies in the same step */
};

/* -log of a uniform draw: exponential with mean 1. */
static double exponential(uint64_t *seed)
{
    return -log(((double)(mc_random(seed) >> 11) + 1) / 9007199254740993.0);
}

static uint32_t phase_size(uint64_t *seed, unsigned phase)
{
    static const double mean[PHASES] = {60, 200, 40, 900, 120, 400};
    double luck = exponential(seed);
    double size = mean[phase] * luck;
    if (mc_below(seed, 200) == 0) size *= 40;
    uint32_t least = sizeof(struct mortal) + 1; /* the mark at the end stays off `next` */
    return size < least ? least : size > 4 * MIB ? 4u * MIB : (uint32_t)size;
}

static uint32_t lifetime(uint64_t *seed)
{
    uint32_t kind = mc_below(seed, 100);
    double mean = kind < 60 ? 20 : kind < 90 ? 4000 : 80000;
    double steps = mean * exponential(seed);
    return steps >= WHEEL - 1 ? WHEEL - 1 : 1 + (uint32_t)steps;
}

static uint64_t bury(struct mortal *dead, uint64_t *live)
{
    uint64_t sum = 0;
    while (dead) {
        struct mortal *next = dead->next;
        *live -= dead->object.size;
        sum += mc_object_end(dead);
        dead = next;
    }
    return sum;
}

/* The state of one churn: who dies when, and what RSS was beside the live bytes. */
struct churn {
    struct mortal **wheel;
    uint64_t seed, live, made, before;
    double ratios;
    unsigned readings;
};

static void give_birth(struct churn *churn, uint64_t step, unsigned phase)
{
    uint32_t size = phase_size(&churn->seed, phase);
    struct mortal *born = mc_need(malloc(size));
    struct mortal **death = &churn->wheel[(step + lifetime(&churn->seed)) % WHEEL];
    mc_object_stamp(born, size, (uint32_t)step);
    born->next = *death;
    *death = born;
    churn->live += size;
    churn->made++;
}

static void read_ratio(struct churn *churn)
{
    churn->ratios += mc_resident_over(churn->live, churn->before);
    churn->readings++;
}

uint64_t mc_bench_fragment(struct mc_bench *bench)
{
    uint64_t steps = mc_scaled(bench, 600000), every = steps / (PHASES * SAMPLES) + 1, sum = 0;
    struct churn churn = {.seed = mc_seed(0)};
    churn.wheel = mc_need(malloc(WHEEL * sizeof(*churn.wheel)));
    memset(churn.wheel, 0, WHEEL * sizeof(*churn.wheel));
    churn.before = mc_resident();
    for (uint64_t step = 0; step < steps; step++) {
        unsigned phase = (unsigned)(step * PHASES / steps);
        sum += bury(churn.wheel[step % WHEEL], &churn.live);
        churn.wheel[step % WHEEL] = NULL;
        for (unsigned i = 0; i < BIRTHS; i++)
            give_birth(&churn, step, phase);
        if (step > steps / PHASES && step % every == 0) read_ratio(&churn);
    }
    for (unsigned i = 0; i < WHEEL; i++)
        sum += bury(churn.wheel[i], &churn.live);
    free(churn.wheel);
    bench->rss_ratio = churn.readings ? churn.ratios / churn.readings : 0;
    bench->ops = churn.made;
    return sum;
}

static uint64_t footprint(struct mc_bench *bench, uint64_t bytes, uint32_t low, uint32_t high)
{
    uint64_t total = mc_scaled(bench, bytes), seed = mc_seed(0), sum = 0, live = 0, count = 0;
    uint64_t before = mc_resident();
    struct chained {
        struct chained *next;
    } *all = NULL;
    while (live < total) {
        uint32_t size = low == high ? low : mc_between(&seed, low, high);
        unsigned char *p = mc_need(malloc(size));
        memset(p, 0xa5, size);
        ((struct chained *)(void *)p)->next = all;
        all = (struct chained *)(void *)p;
        live += size;
        count++;
    }
    bench->rss_ratio = (double)(mc_resident() - before) / (double)live;
    while (all) {
        struct chained *next = all->next;
        sum += ((unsigned char *)all)[sizeof(*all)];
        free(all);
        all = next;
    }
    bench->ops = count;
    return sum;
}

uint64_t mc_bench_footprint_16(struct mc_bench *bench)
{
    return footprint(bench, 64 * MIB, 16, 16);
}

uint64_t mc_bench_footprint_mix(struct mc_bench *bench)
{
    return footprint(bench, 128 * MIB, 24, 2000);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A second of a nearly idle program: a few small allocations every millisecond, and in some
 * programs a buffer of up to 256 KiB beside them. */
static void idle_on(uint64_t *seed, bool buffers)
{
    for (double until = seconds() + 1; seconds() < until;) {
        for (unsigned i = 0; i < 10; i++)
            mc_object_end(mc_object_new(mc_between(seed, 16, 2000), i));
        if (buffers) mc_object_end(mc_object_new(mc_between(seed, 16 << 10, 256 << 10), 0));
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static uint64_t giveback(struct mc_bench *bench, bool buffers)
{
    uint64_t total = mc_scaled(bench, 256 * MIB), seed = mc_seed(0), sum = 0, live = 0;
    size_t capacity = (size_t)(total / 500) + 1, count = 0;
    uint64_t before = mc_resident();
    void **objects = mc_need(malloc(capacity * sizeof(*objects)));
    while (live < total && count < capacity) {
        uint32_t size = mc_between(&seed, 16, 4000);
        objects[count] = mc_object_new(size, (uint32_t)count);
        memset((char *)objects[count] + MC_OBJECT_MIN, 0, size - MC_OBJECT_MIN);
        mc_object_stamp(objects[count], size, (uint32_t)count);
        live += size;
        count++;
    }
    uint64_t peak = mc_resident() - before;
    for (size_t i = 0; i < count; i++)
        if (i % 1000) sum += mc_object_end(objects[i]);
    idle_on(&seed, buffers);
    uint64_t after = mc_resident();
    bench->kept_ratio = (double)(after > before ? after - before : 0) / (double)peak;
    for (size_t i = 0; i < count; i += 1000)
        sum += mc_object_end(objects[i]);
    free(objects);
    bench->ops = count;
    return sum;
}

uint64_t mc_bench_giveback(struct mc_bench *bench)
{
    return giveback(bench, false);
}

uint64_t mc_bench_giveback_mixed(struct mc_bench *bench)
{
    return giveback(bench, true);
}

uint64_t mc_bench_large(struct mc_bench *bench)
{
    uint64_t count = mc_scaled(bench, 400), seed = mc_seed(0), sum = 0;
    void *objects[LARGE_LIVE] = {NULL};
    for (uint64_t i = 0; i < count; i++) {
        unsigned at = mc_below(&seed, LARGE_LIVE);
        uint32_t size = mc_between(&seed, 5 * MIB, 25 * MIB);
        sum += mc_object_end(objects[at]);
        unsigned char *p = mc_object_new(size, (uint32_t)i);
        for (size_t page = 4096; page < size / 4; page += 4096)
            p[page] = 1;
        objects[at] = p;
    }
    for (unsigned i = 0; i < LARGE_LIVE; i++)
        sum += mc_object_end(objects[i]);
    bench->ops = count;
    return sum;
}

struct leavers {
    uint64_t round;
    void *left[256][LEFT];
};

static uint64_t leaver(void *context, unsigned index)
{
    struct leavers *leavers = context;
    uint64_t seed = mc_seed((unsigned)leavers->round * 256 + index), sum = 0;
    void *own[4 * LEFT];
    for (unsigned i = 0; i < 4 * LEFT; i++)
        own[i] = mc_object_new(mc_between(&seed, 8, 1000), i);
    for (unsigned i = 0; i < LEFT; i++) {
        leavers->left[index][i] = own[4 * i];
        for (unsigned k = 1; k < 4; k++)
            sum += mc_object_end(own[4 * i + k]);
    }
    return sum;
}

uint64_t mc_bench_mleak(struct mc_bench *bench)
{
    static struct leavers leavers;
    unsigned together = bench->threads > 1 ? bench->threads : 2; /* always real threads */
    uint64_t rounds = mc_scaled(bench, 8000) / together + 1, sum = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        leavers.round = round;
        sum += mc_in_threads(together, leaver, &leavers);
        for (unsigned t = 0; t < together; t++)
            for (unsigned i = 0; i < LEFT; i++)
                sum += mc_object_end(leavers.left[t][i]);
    }
    bench->ops = rounds * together * 4 * LEFT;
    return sum;
}
