/* SPDX-License-Identifier: MIT */
/* Counters of 32 bits, with turns for what goes beyond. Exact at every instant, also in the middle of a signal
 * handler, where threads count together, and where there is no room. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>

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
static void turn_in(unsigned shard)
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
    uint32_t stack = intern(2 * shard), other = intern(2 * shard + 1);
    uint64_t turns = mc_own_region.turns;
    count_in(shard, other, 7, 8);
    for (uint64_t i = 0; i < test_scale(20000); i++) {
        /* Mostly the largest of those that turn them. */
        uint64_t which = random_below(&random, 4) ? MOST - 1 : random_below(&random, SIZES);
        if (random_below(&random, 8) && which >= MOST) which = MOST - 1;
        if (random_below(&random, 2))
            count_one_in(shard, stack, &sum, sizes[which]);
        else
            count_out(shard, stack, &sum, sizes[which],
                      random_below(&random, 1 << MC_TAG_BIRTH_BITS));
        if (i % 16 == 0) check_sum(stack, &sum);
    }
    check_sum(stack, &sum);
    REQUIRE(mc_own_region.turns > turns);
    REQUIRE(sum_of(other).allocs == 1 &&
            sum_of(other).usable_in == 8); /* beside it nothing changed */
}

static void counters_turn(void)
{
    trace(64 << 20);
    REQUIRE_EQUAL(mc_own_region.turns, 0);
    turn_in(0);
    turn_in(3);
}

/* A long life alone turns its counter, whatever the size. */
static void lifetimes_turn(void)
{
    trace(64 << 20);
    for (unsigned shard = 0; shard < 2; shard++) {
        struct mc_region_counters sum = {0};
        uint32_t stack = intern(shard);
        for (unsigned i = 0; i < 1000; i++) {
            count_out(shard, stack, &sum, 16, (1 << MC_TAG_BIRTH_BITS) - 1);
            check_sum(stack, &sum);
        }
        REQUIRE(sum.lifetimes > 16ull << MC_TURN_SHIFT);
    }
}

static uint32_t interrupted;
static unsigned interrupted_shard;
static struct mc_region_counters of_handler;
static volatile sig_atomic_t interrupts;

static void count_in_handler(int number)
{
    (void)number;
    count_one_in(interrupted_shard, interrupted, &of_handler, MC_COUNTERS_MOST - 3);
    count_out(interrupted_shard, interrupted, &of_handler, MC_COUNTERS_MOST - 5, 1 << 24);
    interrupts++;
}

/* A handler counts in the very row that it interrupted, and makes it turn. */
static void turn_in_handlers(unsigned shard)
{
    struct mc_region_counters sum = {0}, both;
    interrupted = intern(shard);
    interrupted_shard = shard;
    of_handler = sum;
    interrupts = 0;
    struct sigaction action = {.sa_handler = count_in_handler};
    struct itimerval often = {{0, 200}, {0, 200}}, never = {0};
    REQUIRE(!sigaction(SIGALRM, &action, 0) && !setitimer(ITIMER_REAL, &often, 0));
    while (interrupts < (sig_atomic_t)test_scale(1000)) {
        for (unsigned i = 0; i < 1000; i++) {
            count_one_in(shard, interrupted, &sum, MC_COUNTERS_MOST);
            count_out(shard, interrupted, &sum, MC_COUNTERS_MOST - 1, 1 << 23);
        }
    }
    REQUIRE(!setitimer(ITIMER_REAL, &never, 0));
    both = of_handler;
    add(&both, &sum);
    check_sum(interrupted, &both);
}

static void turns_in_handlers(void)
{
    trace(64 << 20);
    turn_in_handlers(0);
    turn_in_handlers(1);
}

/* Threads with shards and without, in one stack. */
enum { THREADS = 5 };
static uint32_t common;
static struct mc_region_counters of_threads[THREADS];

static void *turn_together(void *argument)
{
    static const unsigned numbers[THREADS] = {1, 7, 0, 0, 0};
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
    const uint32_t *place = mc_area_record(MC_AREA_PLACES, common);
    const struct mc_region_narrow *row = mc_area_record(MC_AREA_COMMON, *place);
    REQUIRE(*place && row->allocs == 3 * test_scale(100000));
}

/* Of a page of wide rows that is not there yet. */
static uint32_t intern_far(void)
{
    for (uint64_t i = 0; i < MC_PAGE / sizeof(struct mc_region_counters); i++)
        intern(1000 + i);
    return intern(1);
}

/* The file system is full when the first turns are to be noted: then the row that is always there counts, and the
 * sum is what it was; when there is room again, the row goes on. */
static void full_in(void *argument)
{
    unsigned shard = (unsigned)(uintptr_t)argument;
    struct mc_region_counters sum = {0}, got;
    const char *failed = "";
    mount_small("size=3m");
    options.max_size = 64 << 20;
    REQUIRE(!mc_region_create(&options, &failed) && mc_trace_ready());
    uint32_t stack = intern_far();
    count_one_in(shard, stack, &sum, 100);
    fill_up();
    for (unsigned i = 0; i < 500; i++) {
        count_one_in(shard, stack, &sum, MC_COUNTERS_MOST);
        count_out(shard, stack, &sum, MC_COUNTERS_MOST - 1, 1 << 22);
        got = sum_of_all();
        REQUIRE(!memcmp(&got, &sum, sizeof(got)));
    }
    REQUIRE(mc_own_region.overflow_stacks > 0 && mc_own_region.turns == 0);
    make_room();
    for (unsigned i = 0; i < 500; i++) {
        count_one_in(shard, stack, &sum, MC_COUNTERS_MOST);
        count_out(shard, stack, &sum, MC_COUNTERS_MOST - 1, 1 << 22);
    }
    got = sum_of_all();
    REQUIRE(!memcmp(&got, &sum, sizeof(got)));
    REQUIRE(mc_own_region.turns > 0 && sum_of(stack).allocs >= 500);
}

/* Of threads that count together some find no room for turns while others find that there is some now: nothing is
 * counted twice, or lost. */
static void *find_room(void *argument)
{
    uint64_t which = (uint64_t)argument;
    for (uint64_t i = 0; i < 20000; i++) {
        count_one_in(0, common, &of_threads[which], MC_COUNTERS_MOST);
        count_out(0, common, &of_threads[which], MC_COUNTERS_MOST - 1, 1 << 22);
    }
    return 0;
}

static void room_comes(void *unused)
{
    pthread_t threads[THREADS];
    struct mc_region_counters sum = {0}, got;
    const char *failed = "";
    (void)unused;
    mount_small("size=3m");
    options.max_size = 64 << 20;
    REQUIRE(!mc_region_create(&options, &failed) && mc_trace_ready());
    common = intern_far();
    count_one_in(0, common, &sum, 100);
    fill_up();
    for (uint64_t i = 0; i < THREADS; i++)
        REQUIRE(!pthread_create(&threads[i], 0, find_room, (void *)i));
    while (mc_load(&mc_own_region.overflow_stacks) < 100) {
    }
    make_room();
    for (unsigned i = 0; i < THREADS; i++) {
        REQUIRE(!pthread_join(threads[i], 0));
        add(&sum, &of_threads[i]);
    }
    got = sum_of_all();
    REQUIRE(!memcmp(&got, &sum, sizeof(got)));
    REQUIRE(mc_own_region.turns > 0);
}

static void in_child(void (*function)(void *), unsigned argument)
{
    char text[1024];
    int status = test_in_child(function, (void *)(uintptr_t)argument, text, sizeof(text));
    fputs(text, stderr);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        test_skip("no file system can be mounted here");
    REQUIRE_EQUAL(status, 0);
}

static void no_room_for_turns(void)
{
    in_child(full_in, 0);
    in_child(full_in, 1);
}

static void room_for_turns_comes(void)
{
    for (unsigned i = 0; i < test_scale(20); i++)
        in_child(room_comes, i);
}

/* A stack has a common row when somebody counts there who has no shard: one, behind the last. */
static void common_rows_are_few(void)
{
    enum { STACKS = 2000, EACH = 10 };
    const uint64_t *rows = &mc_own_region.areas[MC_AREA_COMMON].count;
    struct mc_region_counters sum = {0};
    trace(64 << 20);
    REQUIRE_EQUAL(*rows, 1);
    for (uint64_t i = 0; i < STACKS; i++)
        count_one_in(1, intern(i), &sum, 8);
    REQUIRE_EQUAL(*rows, 1);
    for (unsigned round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < STACKS; i += EACH)
            count_out(0, intern(i), &sum, 8, 1);
        REQUIRE_EQUAL(*rows, 1 + STACKS / EACH);
    }
    for (uint64_t i = 0; i < STACKS; i += EACH) {
        struct mc_region_counters got = sum_of(intern(i));
        REQUIRE(got.allocs == 1 && got.frees == 3 && got.usable_out == 24);
        REQUIRE(!mc_area_is_there(mc_counters_wide(intern(i))) ||
                !mc_counters_wide(intern(i))->frees);
    }
    struct mc_region_counters got = sum_of_all();
    REQUIRE(!memcmp(&got, &sum, sizeof(got)));
}

/* Several at once: each stack has one row, whoever was first. */
enum { RACED = 3000 };
static uint32_t raced[RACED];

static void *race(void *argument)
{
    uint64_t which = (uint64_t)argument;
    for (unsigned i = 0; i < RACED; i++)
        count_one_in(0, raced[i], &of_threads[which], 8);
    return 0;
}

static void common_rows_are_made_once(void)
{
    pthread_t threads[THREADS];
    trace(64 << 20);
    for (unsigned i = 0; i < RACED; i++)
        raced[i] = intern(i);
    for (uint64_t i = 0; i < THREADS; i++)
        REQUIRE(!pthread_create(&threads[i], 0, race, (void *)i));
    for (unsigned i = 0; i < THREADS; i++)
        REQUIRE(!pthread_join(threads[i], 0));
    for (unsigned i = 0; i < RACED; i++)
        REQUIRE_EQUAL(sum_of(raced[i]).allocs, THREADS);
    REQUIRE_EQUAL(sum_of_all().allocs, THREADS * RACED);
}

static const struct test_case cases[] = {
    {"counters_narrow_values", narrow_values, 0},
    {"counters_turn", counters_turn, 0},
    {"counters_lifetimes_turn", lifetimes_turn, 0},
    {"counters_turns_in_handlers", turns_in_handlers, 0},
    {"counters_turns_threads", turns_threads, 0},
    {"counters_no_room_for_turns", no_room_for_turns, 0},
    {"counters_room_for_turns_comes", room_for_turns_comes, 0},
    {"counters_common_rows_are_few", common_rows_are_few, 0},
    {"counters_common_rows_are_made_once", common_rows_are_made_once, 0},
};
TEST_MAIN(cases)
