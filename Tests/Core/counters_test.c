/* SPDX-License-Identifier: MIT */
/* Counters that a thread has for itself: of 32 bits, with turns for what goes beyond. Exact at every instant, also
 * in the middle of a signal handler, and where there is no room. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>

#include "numbered.h"
#include "small_fs.h"

static void count_out(unsigned shard, uint32_t stack, struct mc_region_counters *sum, uint64_t size,
                      uint64_t lifetime)
{
    mc_counters_out(shard, stack, (struct mc_amount){1, size, size}, (struct mc_life){lifetime, 1});
    sum->frees++;
    sum->bytes_out += size;
    sum->usable_out += size;
    sum->lifetimes += lifetime;
    sum->temporary++;
}

static void count_one_in(unsigned shard, uint32_t stack, struct mc_region_counters *sum,
                         uint64_t size)
{
    count_in(shard, stack, size - 1, size);
    sum->allocs++;
    sum->bytes_in += size - 1;
    sum->usable_in += size;
}

static void check_sum(uint32_t stack, const struct mc_region_counters *wanted)
{
    struct mc_region_counters got = sum_of(stack);
    REQUIRE(!memcmp(&got, wanted, sizeof(got)));
}

/* Every value, noted up to three turns late, comes back. */
static void narrow_values(void)
{
    struct random random = test_random(1);
    for (uint64_t i = 0; i < test_scale(100000); i++) {
        uint64_t turns = random_below(&random, 1u << 31), rest = random_below(&random, 1u << 30);
        uint64_t value = turns << MC_TURN_SHIFT | rest;
        for (uint64_t late = 0; late < 4 && late <= turns; late++)
            REQUIRE_EQUAL(mc_narrow_value((uint32_t)value, (uint32_t)(turns - late)), value);
    }
}

/* Sizes of all kinds, until each counter of bytes has turned a few hundred times; looked at all along. */
static void counters_turn(void)
{
    static const uint64_t sizes[] = {1,
                                     24,
                                     4096,
                                     1 << 20,
                                     MC_COUNTERS_MOST - 1,
                                     MC_COUNTERS_MOST,
                                     MC_COUNTERS_MOST + 1,
                                     1 << 30,
                                     1ull << 32,
                                     5ull << 40};
    enum { SIZES = sizeof(sizes) / sizeof(sizes[0]), MOST = 6 };
    struct random random = test_random(2);
    struct mc_region_counters sum = {0};
    trace(64 << 20);
    uint32_t stack = intern(1), other = intern(2);
    count_in(3, other, 7, 8);
    REQUIRE_EQUAL(mc_own_region.turns, 0);
    for (uint64_t i = 0; i < test_scale(20000); i++) {
        /* Mostly the largest of those that turn them. */
        uint64_t which = random_below(&random, 4) ? MOST - 1 : random_below(&random, SIZES);
        if (random_below(&random, 8) && which >= MOST) which = MOST - 1;
        if (random_below(&random, 2))
            count_one_in(3, stack, &sum, sizes[which]);
        else
            count_out(3, stack, &sum, sizes[which], random_below(&random, 1 << MC_TAG_BIRTH_BITS));
        if (i % 16 == 0) check_sum(stack, &sum);
    }
    check_sum(stack, &sum);
    REQUIRE(mc_own_region.turns > 0);
    REQUIRE(sum_of(other).allocs == 1 &&
            sum_of(other).usable_in == 8); /* beside it nothing changed */
}

/* A long life alone turns its counter, whatever the size. */
static void lifetimes_turn(void)
{
    struct mc_region_counters sum = {0};
    trace(64 << 20);
    uint32_t stack = intern(1);
    for (unsigned i = 0; i < 1000; i++) {
        count_out(1, stack, &sum, 16, (1 << MC_TAG_BIRTH_BITS) - 1);
        check_sum(stack, &sum);
    }
    REQUIRE(sum.lifetimes > 16ull << MC_TURN_SHIFT);
}

static uint32_t interrupted;
static struct mc_region_counters of_handler;
static volatile sig_atomic_t interrupts;

static void count_in_handler(int number)
{
    (void)number;
    count_one_in(2, interrupted, &of_handler, MC_COUNTERS_MOST - 3);
    count_out(2, interrupted, &of_handler, MC_COUNTERS_MOST - 5, 1 << 24);
    interrupts++;
}

/* A handler counts in the very row that it interrupted, and makes it turn. */
static void turns_in_handlers(void)
{
    struct mc_region_counters sum = {0}, both;
    trace(64 << 20);
    interrupted = intern(1);
    struct sigaction action = {.sa_handler = count_in_handler};
    struct itimerval often = {{0, 200}, {0, 200}}, never = {0};
    REQUIRE(!sigaction(SIGALRM, &action, 0) && !setitimer(ITIMER_REAL, &often, 0));
    while (interrupts < (sig_atomic_t)test_scale(1000)) {
        for (unsigned i = 0; i < 1000; i++) {
            count_one_in(2, interrupted, &sum, MC_COUNTERS_MOST);
            count_out(2, interrupted, &sum, MC_COUNTERS_MOST - 1, 1 << 23);
        }
    }
    REQUIRE(!setitimer(ITIMER_REAL, &never, 0));
    both = of_handler;
    add(&both, &sum);
    check_sum(interrupted, &both);
}

/* Threads with shards and without, in one stack. */
enum { THREADS = 4 };
static uint32_t common;
static struct mc_region_counters of_threads[THREADS];

static void *turn_together(void *argument)
{
    static const unsigned numbers[THREADS] = {1, 7, 0, 0};
    uint64_t which = (uint64_t)argument;
    for (uint64_t i = 0; i < test_scale(100000); i++) {
        count_one_in(numbers[which], common, &of_threads[which], MC_COUNTERS_MOST - i % 100);
        count_out(numbers[which], common, &of_threads[which], MC_COUNTERS_MOST - i % 90, i % 1000);
    }
    return 0;
}

static void turns_threads(void)
{
    pthread_t threads[THREADS];
    struct mc_region_counters sum = {0};
    trace(64 << 20);
    common = intern(1);
    for (uint64_t i = 0; i < THREADS; i++)
        REQUIRE(!pthread_create(&threads[i], 0, turn_together, (void *)i));
    for (unsigned i = 0; i < THREADS; i++)
        REQUIRE(!pthread_join(threads[i], 0));
    for (unsigned i = 0; i < THREADS; i++)
        add(&sum, &of_threads[i]);
    check_sum(common, &sum);
}

/* The file system is full when the first turns are to be noted: then the row's counts are those of the row that is
 * always there, and the sum is what it was; when there is room again, the row goes on. */
static void no_room_for_turns(void)
{
    struct mc_region_counters sum = {0}, got;
    const char *failed = "";
    mount_small("size=3m");
    options.max_size = 64 << 20;
    REQUIRE(!mc_region_create(&options, &failed) && mc_trace_ready());
    uint32_t stack = intern(1);
    count_one_in(1, stack, &sum, 100);
    fill_up();
    for (unsigned i = 0; i < 500; i++) {
        count_one_in(1, stack, &sum, MC_COUNTERS_MOST);
        count_out(1, stack, &sum, MC_COUNTERS_MOST - 1, 1 << 22);
        got = sum_of_all();
        REQUIRE(!memcmp(&got, &sum, sizeof(got)));
    }
    REQUIRE(mc_own_region.overflow_stacks > 0 && mc_own_region.turns == 0);
    make_room();
    for (unsigned i = 0; i < 500; i++) {
        count_one_in(1, stack, &sum, MC_COUNTERS_MOST);
        count_out(1, stack, &sum, MC_COUNTERS_MOST - 1, 1 << 22);
    }
    got = sum_of_all();
    REQUIRE(!memcmp(&got, &sum, sizeof(got)));
    REQUIRE(mc_own_region.turns > 0 && sum_of(stack).allocs >= 500);
}

static const struct test_case cases[] = {
    {"counters_narrow_values", narrow_values, 0},
    {"counters_turn", counters_turn, 0},
    {"counters_lifetimes_turn", lifetimes_turn, 0},
    {"counters_turns_in_handlers", turns_in_handlers, 0},
    {"counters_turns_threads", turns_threads, 0},
    {"counters_no_room_for_turns", no_room_for_turns, 0},
};
TEST_MAIN(cases)
