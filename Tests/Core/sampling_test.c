/* SPDX-License-Identifier: MIT */
/* Sampling: draws, weights, and what they make of a process whose every object is known. Statistics
 * are of fixed seeds: they come out the same every time. */
#include "sampling.h"

#include "traced.h"

static double square_root(double value)
{
    double root = value > 1 ? value : 1;
    for (int i = 0; i < 200; i++)
        root = (root + value / root) / 2;
    return root;
}

/* Six standard errors: what a sound estimate exceeds once in half a billion times. */
static int is_near(double found, double wanted, double variance)
{
    double distance = found > wanted ? found - wanted : wanted - found;
    return distance <= 6 * square_root(variance);
}

/* Distances to the next point: mean 2^n, variance 4^n, and e^-1 of them beyond the mean. */
static void draws(void)
{
    static const uint32_t intervals[] = {MC_SAMPLE_LEAST, 12, MC_SAMPLE_USUAL, MC_SAMPLE_MOST};
    for (unsigned k = 0; k < sizeof(intervals) / sizeof(*intervals); k++) {
        uint64_t random = 5 + k, count = test_scale(200000), beyond = 0;
        double range = (double)(1ull << intervals[k]), sum = 0, squares = 0;
        for (uint64_t i = 0; i < count; i++) {
            /* Drawn in whole bytes, cut down: half a byte too little on the average. */
            double drawn = (double)mc_sampling_draw(intervals[k], &random) + 0.5;
            sum += drawn / range;
            squares += drawn * drawn / range / range;
            beyond += drawn > range;
        }
        double number = (double)count, tail = 0.36787944117144233;
        REQUIRE(is_near(sum, number, number));
        REQUIRE(is_near(squares, 2 * number, 20 * number + number * number / range));
        REQUIRE(is_near((double)beyond, number * tail,
                        number * tail * (1 - tail) + number * number / range / range));
    }
}

/* What an object of a size stands for, against its probability by another way: (1 - 2^-n)^size. */
static void weights(void)
{
    for (uint32_t n = MC_SAMPLE_LEAST; n <= MC_SAMPLE_MOST; n++) {
        for (uint64_t size = 1; size < 64ull << n; size += size / 3 + 1) {
            struct mc_weighed weighed = mc_sampling_weigh(n, size, size + 5);
            double x = (double)size / (double)(1ull << n), survives = 1, part = x / 1024;
            for (int i = 0; i < 1024; i++)
                survives *= 1 - part + part * part / 2 - part * part * part / 6;
            double weight = 1 / (1 - survives);
            double found = (double)weighed.count / MC_SAMPLE_UNIT;
            REQUIRE(found > weight * 0.999 - 0.01 && found < weight * 1.001 + 0.01);
            double bytes = (double)weighed.requested;
            REQUIRE(bytes >= (double)size && bytes > weight * (double)size * 0.999 - 1 &&
                    bytes < weight * (double)size * 1.001 + 1);
            REQUIRE(weighed.usable >= weighed.requested);
            double square = weight * (weight - 1);
            double error = (double)weighed.count_square - square;
            REQUIRE(error < square * 0.01 + 1 && -error < square * 0.01 + 1);
        }
    }
    REQUIRE_EQUAL(mc_sampling_weigh(19, 1ull << 40, 1ull << 40).requested, 1ull << 40);
    REQUIRE_EQUAL(mc_sampling_weigh(19, 1ull << 40, 1ull << 40).count, MC_SAMPLE_UNIT);
    REQUIRE_EQUAL(mc_sampling_weigh(19, 1ull << 40, 1ull << 40).bytes_square, 0);
    REQUIRE_EQUAL(mc_sampling_weigh(19, 0, 16).requested, 0); /* an object of no bytes is one */
    REQUIRE(mc_sampling_weigh(19, 0, 16).count > 0);
}

enum { OBJECTS = 20000, ROUNDS = 40 };
static struct {
    uint64_t tag, usable, requested;
} objects[OBJECTS];

static int takes(size_t size)
{
    return !mc_sampling_passes(size) && mc_sampling_takes(size);
}

static uint64_t usable_for(uint64_t size)
{
    return mc_round_up(size + !size, 16);
}

/* Small, middling and huge ones; the sums of what lives are given. */
static uint64_t allocate_all(uint64_t seed, double *bytes)
{
    struct random random = test_random(seed);
    uint64_t taken = 0;
    for (unsigned i = 0; i < OBJECTS; i++) {
        uint64_t kind = random_below(&random, 100);
        uint64_t size = kind < 90   ? random_below(&random, 200)
                        : kind < 99 ? random_below(&random, 40000)
                                    : random_below(&random, 4 << 20);
        objects[i].requested = size;
        objects[i].usable = usable_for(size);
        objects[i].tag = 0;
        *bytes += (double)size;
        if (!takes(size)) continue;
        objects[i].tag = mc_trace_count_in(1 + i % 9, 0, objects[i].usable, size, 1);
        taken++;
    }
    return taken;
}

struct estimates {
    double count, bytes, count_variance, bytes_variance;
    uint64_t taken, freed;
};

static struct estimates estimates(uint32_t n)
{
    struct estimates sum = {0};
    uint64_t end = mc_own_region.areas[MC_AREA_STACKS].count;
    for (uint32_t id = MC_STACK_FIRST; id < end; id++) {
        const struct mc_region_stack *stack = mc_area_record(MC_AREA_STACKS, id);
        if (!(stack->flags & MC_STACK_SAMPLED)) continue;
        REQUIRE_EQUAL(stack->flags >> MC_STACK_INTERVAL_SHIFT, n);
        struct mc_region_counters counters = sum_of(id);
        const struct mc_region_samples *samples = mc_area_record(MC_AREA_SAMPLES, id);
        sum.count += (double)(counters.allocs - counters.frees) / MC_SAMPLE_UNIT;
        sum.bytes += (double)(counters.bytes_in - counters.bytes_out);
        sum.count_variance += (double)(samples->count_square_in - samples->count_square_out);
        sum.bytes_variance +=
            (double)(samples->bytes_square_in - samples->bytes_square_out) * (double)(1ull << n);
        sum.taken += samples->taken;
        sum.freed += samples->freed;
    }
    return sum;
}

/* Estimates are near the truth by their own standard errors, unbiased over many rounds, and what is
 * freed leaves nothing behind. */
static void estimating(void)
{
    enum { N = 12 };
    double errors = 0, variances = 0;
    trace(64 << 20);
    mc_sampling.random = 42;
    mc_own_region.sample = N;
    for (unsigned round = 0; round < ROUNDS; round++) {
        double bytes = 0;
        uint64_t taken = allocate_all(round, &bytes);
        REQUIRE(taken > 0 && taken < OBJECTS / 2);
        struct estimates found = estimates(N);
        REQUIRE(is_near(found.count, OBJECTS, found.count_variance));
        REQUIRE(is_near(found.bytes, bytes, found.bytes_variance));
        errors += found.bytes - bytes;
        variances += found.bytes_variance;
        for (unsigned i = 0; i < OBJECTS; i++) {
            if (objects[i].tag)
                mc_trace_count_out(objects[i].tag, objects[i].usable, objects[i].requested);
        }
        found = estimates(N);
        REQUIRE(found.count == 0 && found.bytes == 0 && found.count_variance == 0 &&
                found.bytes_variance == 0 && found.taken == found.freed);
    }
    REQUIRE(is_near(errors, 0, variances));
}

/* The interval may change at any time; tags of another one are counted out by it. */
static void changing_interval(void)
{
    trace(64 << 20);
    double bytes = 0;
    mc_sampling.random = 43;
    mc_own_region.sample = 8;
    REQUIRE(allocate_all(1, &bytes) > 0);
    mc_own_region.sample = MC_SAMPLE_MOST; /* next point far away */
    for (unsigned i = 0; i < 1000; i++)
        takes(16);
    mc_own_region.sample = 8;
    unsigned taken = 0;
    for (unsigned i = 0; i < 10000; i++)
        taken += takes(16) > 0;
    REQUIRE(taken > 100); /* 606 are to be expected */
    mc_own_region.sample = 0;
    for (unsigned i = 0; i < 1000; i++)
        REQUIRE(takes(i));
    mc_own_region.sample = 200; /* no sense: all */
    for (unsigned i = 0; i < 1000; i++)
        REQUIRE(takes(i));
    for (unsigned i = 0; i < OBJECTS; i++) {
        if (objects[i].tag)
            mc_trace_count_out(objects[i].tag, objects[i].usable, objects[i].requested);
    }
    struct estimates found = estimates(8);
    REQUIRE(found.taken > 0 && found.taken == found.freed && found.bytes == 0);
}

/* How many of 4,000 objects of 16 bytes are taken; 242 are to be expected at 2^8, with a deviation of 15. */
static int is_usual(unsigned taken)
{
    return taken > 150 && taken < 340;
}

/* What was not passed over is not traced after all, each time: the next object is no surer to be sampled. */
static void left_over(void)
{
    trace(64 << 20);
    mc_sampling.random = 45;
    mc_own_region.sample = 8;
    takes(16);
    unsigned taken = 0;
    for (unsigned i = 0; i < 4000; i++) {
        while (mc_sampling_passes(100)) {
        }
        mc_sampling_untraced();
        taken += takes(16) > 0;
    }
    REQUIRE(is_usual(taken));
    for (unsigned i = taken = 0; i < 4000; i++) {
        while (mc_sampling_passes(100)) {
        }
        taken += takes(16) > 0; /* as from a signal handler, before what it interrupted went on */
    }
    REQUIRE(is_usual(taken));
}

/* Requests of absurd sizes, which fail, change nothing for those that follow. */
static void absurd_sizes(void)
{
    static const uint64_t sizes[] = {INT64_MAX, 1ull << 63, (1ull << 63) + (1ull << 62),
                                     UINT64_MAX};
    trace(64 << 20);
    mc_sampling.random = 46;
    for (uint32_t n = 0; n <= 8; n += 8) {
        mc_own_region.sample = n;
        takes(16);
        unsigned taken = 0;
        for (unsigned i = 0; i < 4000; i++) {
            uint64_t size = sizes[i % 4];
            int passed = mc_sampling_passes(size);
            if (!passed) REQUIRE(size <= INT64_MAX && mc_sampling_takes(size));
            passed = mc_sampling_passes(16);
            if (!passed) passed = n ? !mc_sampling_takes(16) : !mc_sampling_takes_all();
            taken += !passed;
        }
        REQUIRE(n ? is_usual(taken) : taken == 4000);
    }
}

/* Exact rows are exact beside sampled ones. */
static void mixed(void)
{
    trace(64 << 20);
    mc_sampling.random = 44;
    mc_own_region.sample = 10;
    double bytes = 0;
    allocate_all(2, &bytes);
    struct estimates before = estimates(10);
    mc_own_region.sample = 0;
    REQUIRE(takes(100));
    uint64_t tag = mc_trace_count_in(1, 0, 112, 100, 0);
    uint32_t stack = mc_tag_stack(tag);
    REQUIRE(sum_of(stack).allocs == 1 && sum_of(stack).bytes_in == 100);
    struct estimates after = estimates(10);
    REQUIRE(after.bytes == before.bytes && after.count == before.count);
    mc_trace_count_out(tag, 112, MC_REQUESTED_IN_TAG);
    REQUIRE(sum_of(stack).frees == 1 && sum_of(stack).bytes_out == 100);
    REQUIRE(sum_of(stack).temporary == 1 && sum_of(stack).lifetimes <= 1);
}

static const struct test_case cases[] = {
    {"sampling_draws", draws, 0},
    {"sampling_weights", weights, 0},
    {"sampling_estimates", estimating, 120},
    {"sampling_interval", changing_interval, 0},
    {"sampling_left_over", left_over, 0},
    {"sampling_absurd_sizes", absurd_sizes, 0},
    {"sampling_mixed", mixed, 0},
};
TEST_MAIN(cases)
