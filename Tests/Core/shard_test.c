/* SPDX-License-Identifier: MIT */
/* The short way in and out: what a thread knows of its shard, when it stops being true, and that it counts
 * as the long way does. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "shard.h"
#include "traced.h"

enum { USABLE = 64, REQUESTED = 50, NUMBER = 5 };
static __thread unsigned own_number = NUMBER;

/* As malloc: the backtrace begins at whoever calls take(). 0: it is not for the short way. */
uint64_t take(size_t usable, size_t requested) __attribute__((noinline));
uint64_t take_for(size_t usable, size_t requested, struct mc_caller caller);
MC_CALLER_ENTRY_2(take, take_for);

__attribute__((used)) uint64_t take_for(size_t usable, size_t requested, struct mc_caller caller)
{
    if (!mc_trace_is_plain()) return 0;
    uint32_t stack = mc_trace_recall(&caller);
    return stack ? mc_trace_count_recalled_in(stack, usable, requested)
                 : mc_trace_count_walked_in(own_number, &caller, usable, requested);
}

/* The same of any thread, by whichever way is its. */
uint64_t take_any(size_t usable, size_t requested) __attribute__((noinline));
uint64_t take_any_for(size_t usable, size_t requested, struct mc_caller caller);
MC_CALLER_ENTRY_2(take_any, take_any_for);

__attribute__((used)) uint64_t take_any_for(size_t usable, size_t requested,
                                            struct mc_caller caller)
{
    uint32_t stack = mc_trace_is_plain() ? mc_trace_recall(&caller) : 0;
    return stack ? mc_trace_count_recalled_in(stack, usable, requested)
                 : mc_trace_count_in(own_number, &caller, usable, requested, 0);
}

/* The test's own frames are the program's, here. */
static void begin(void)
{
    trace(64 << 20);
    mc_own_region.library_start = mc_own_region.library_end = 0;
}

static int give(uint64_t tag)
{
    return mc_trace_count_slot_out(tag, USABLE);
}

static void require_sums(uint64_t allocs, uint64_t frees)
{
    struct mc_region_counters sum = sum_of_all();
    REQUIRE_EQUAL(sum.allocs, allocs);
    REQUIRE_EQUAL(sum.frees, frees);
    REQUIRE_EQUAL(sum.bytes_in, allocs * REQUESTED);
    REQUIRE_EQUAL(sum.bytes_out, frees * REQUESTED);
    REQUIRE_EQUAL(sum.usable_in, allocs * USABLE);
    REQUIRE_EQUAL(sum.usable_out, frees * USABLE);
}

static void shard_counts(void)
{
    enum { ROUNDS = 1000 };
    static uint64_t tags[ROUNDS];
    REQUIRE(!mc_shard_is_known()); /* there is nothing yet */
    mc_trace_thread(NUMBER);
    REQUIRE(!mc_shard_is_known() && !mc_trace_is_plain());
    begin();
    REQUIRE(!mc_shard_is_known() && !take(USABLE, REQUESTED)); /* nobody said whose it is */
    REQUIRE_EQUAL(mc_shard_own(), 0);
    mc_trace_thread(0); /* it has no number */
    REQUIRE(!mc_shard_is_known());
    mc_trace_thread(NUMBER);
    REQUIRE(mc_shard_is_known() && mc_shard_row(5) == mc_counters_row(1, 5));
    REQUIRE_EQUAL(mc_shard_own(), 1);
    for (unsigned i = 0; i < ROUNDS; i++) {
        tags[i] = take(USABLE, REQUESTED);
        REQUIRE(tags[i] && mc_tag_stack(tags[i]) == mc_tag_stack(tags[0]));
        REQUIRE_EQUAL(mc_tag_slack(tags[i]), USABLE - REQUESTED);
        require_sums(i + 1, 0);
    }
    REQUIRE_EQUAL(mc_counters_row(1, mc_tag_stack(tags[0]))->allocs, ROUNDS);
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (i % 2)
            REQUIRE(give(tags[i]));
        else /* another thread's shard */
            mc_counters_out(2, mc_tag_stack(tags[i]), (struct mc_amount){1, REQUESTED, USABLE},
                            (struct mc_life){0});
        require_sums(ROUNDS, i + 1);
    }
}

/* What is sampled or deepened goes the long way. */
static void shard_is_not_for_all(void)
{
    begin();
    mc_trace_thread(NUMBER);
    REQUIRE(mc_shard_is_known() && mc_trace_is_plain());
    mc_own_region.sample = MC_SAMPLE_LEAST;
    REQUIRE(!mc_trace_is_plain());
    mc_own_region.sample = 0;
    mc_own_region.deepen = 100;
    REQUIRE(!mc_trace_is_plain());
    mc_own_region.deepen = 0;
    mc_sampling.interval = MC_SAMPLE_LEAST;
    REQUIRE(!mc_trace_is_plain());
    mc_sampling.interval = 0;
    REQUIRE(mc_trace_is_plain());
    /* Where something was ever sampled, a free has to look which stacks are. */
    uint64_t tag = take(USABLE, REQUESTED);
    mc_own_region.sample = MC_SAMPLE_LEAST;
    mc_sampling_takes(1);
    REQUIRE(!give(tag));
    require_sums(1, 0);
}

/* The calling thread is, for what shards know of it, another one, which has asked so often. */
static void become(uint32_t asked)
{
    mc_shard = (struct mc_shard){.counted = asked};
}

/* A row that the thread never counted in may not be there: the page is not to be touched. */
static void shard_without_row(void)
{
    begin();
    mc_trace_thread(NUMBER);
    uint64_t tag = take(USABLE, REQUESTED);
    become(MC_SHARD_AFTER); /* which frees what the first one made */
    REQUIRE(mc_shard_take(NUMBER + 1) && mc_shard_own() == 2);
    REQUIRE(!give(tag));
    mc_trace_count_out(tag, USABLE, MC_REQUESTED_IN_TAG);
    require_sums(1, 1);
    REQUIRE(give(tag)); /* the row is there now */
}

/* The first has one at once, others when they have counted as often as that, as long as there are any. */
static void shard_for_who_counts(void)
{
    begin();
    for (unsigned i = 0; i < mc_area_runs + 2; i++) {
        unsigned number = NUMBER + 100 * i;
        become(0);
        for (unsigned asked = 0; i && asked < MC_SHARD_AFTER; asked++) {
            mc_trace_thread(number);
            REQUIRE(!mc_shard_is_known() && !mc_trace_is_plain());
            REQUIRE_EQUAL(mc_shard_own(), 0);
        }
        mc_trace_thread(number);
        REQUIRE_EQUAL(mc_shard_own(), i + 1 < mc_area_runs ? i + 1 : 0);
        REQUIRE_EQUAL(mc_own_region.shards, i + 2 < mc_area_runs ? i + 2 : mc_area_runs);
    }
    /* Whoever has a number next has its shard at once. */
    for (unsigned i = 0; i < mc_area_runs + 2; i++) {
        become(0);
        mc_trace_thread(NUMBER + 100 * i);
        REQUIRE_EQUAL(mc_shard_own(), i + 1 < mc_area_runs ? i + 1 : 0);
    }
}

static uint64_t allocs_in(unsigned shard)
{
    uint64_t sum = 0, end = mc_own_region.areas[MC_AREA_STACKS].count;
    for (uint32_t stack = MC_STACK_FIRST; stack < end; stack++) {
        const struct mc_region_narrow *row = mc_counters_row(shard, stack);
        if (mc_area_is_there(row)) sum += row->allocs;
    }
    return sum;
}

/* What it recalled before has no row in the shard it takes: recalled, the count would go to a page that is not
 * there. */
static void shard_forgets_what_it_recalled(void)
{
    begin();
    REQUIRE(mc_shard_take(NUMBER + 1)); /* somebody else was first */
    become(0);
    for (unsigned i = 0; i < 2 * MC_SHARD_AFTER; i++) {
        mc_trace_thread(NUMBER);
        REQUIRE(take_any(USABLE, REQUESTED));
        require_sums(i + 1, 0);
        REQUIRE_EQUAL(mc_shard_own(), i < MC_SHARD_AFTER ? 0 : 2);
    }
    REQUIRE_EQUAL(allocs_in(2), MC_SHARD_AFTER);
}

static void *other_thread(void *unused)
{
    (void)unused;
    REQUIRE(!mc_shard_is_known());
    while (!mc_shard_is_known())
        mc_trace_thread(NUMBER + 1);
    REQUIRE(mc_shard_row(0) == mc_counters_row(2, 0));
    return 0;
}

static void shard_is_a_threads_own(void)
{
    pthread_t thread;
    begin();
    mc_trace_thread(NUMBER);
    REQUIRE(!pthread_create(&thread, 0, other_thread, 0) && !pthread_join(thread, 0));
    REQUIRE(mc_shard_row(0) == mc_counters_row(1, 0));
}

/* Each counts in the short way what it made and what others made, in the same stacks. */
enum { THREADS = 4, OBJECTS = 2000 };
static uint64_t tags[THREADS][OBJECTS]; /* [shared] 0: not made yet */

static void *make_and_free(void *argument)
{
    uint64_t number = (uint64_t)argument, next = (number + 1) % THREADS;
    own_number = (unsigned)number + 1;
    while (!mc_shard_is_known())
        mc_trace_thread(own_number);
    for (unsigned i = 0; i < OBJECTS; i++) {
        uint64_t tag = take(USABLE, REQUESTED);
        REQUIRE(tag);
        mc_store_release(&tags[number][i], tag);
    }
    for (unsigned i = 0; i < OBJECTS; i++) {
        uint64_t tag;
        while (!(tag = mc_load_acquire(&tags[next][i]))) {
        }
        /* Where the other's stack has no row here yet, the long way makes it. */
        if (!give(tag)) mc_trace_count_out(tag, USABLE, MC_REQUESTED_IN_TAG);
    }
    return 0;
}

static void shard_threads(void)
{
    pthread_t threads[THREADS];
    begin();
    for (uint64_t i = 0; i < THREADS; i++)
        REQUIRE(!pthread_create(&threads[i], 0, make_and_free, (void *)i));
    for (unsigned i = 0; i < THREADS; i++)
        REQUIRE(!pthread_join(threads[i], 0));
    require_sums(THREADS * OBJECTS, THREADS * OBJECTS);
}

static uint64_t parents_tag;

/* The child's areas are others; what the parent's thread knew must not be used. */
static void forked_makes_its_own(void *unused)
{
    const char *failed = "";
    (void)unused;
    int error = mc_region_create_forked(&options, &failed);
    REQUIRE_EQUAL(error, 0);
    REQUIRE(!mc_shard_is_known()); /* from the moment at which the parent's are gone */
    mc_trace_after_fork(0);
    REQUIRE(!mc_shard_is_known() && !give(parents_tag));
    mc_trace_thread(NUMBER);
    mc_trace_recount(parents_tag, USABLE, MC_REQUESTED_IN_TAG, 0);
    mc_os_fork_done();
    REQUIRE(mc_shard_is_known() && mc_shard_row(0) == mc_counters_row(1, 0));
    REQUIRE(give(parents_tag) && take(USABLE, REQUESTED));
    require_sums(2, 1);
    mc_region_remove();
}

static void forked_has_none(void *unused)
{
    (void)unused;
    mc_region_abandon();
    mc_trace_after_fork(EPERM);
    mc_os_fork_done();
    mc_trace_thread(NUMBER);
    REQUIRE(!mc_shard_is_known() && !mc_trace_is_plain());
    REQUIRE(!give(parents_tag));
    mc_trace_count_out(parents_tag, USABLE, MC_REQUESTED_IN_TAG);
    mc_region_remove();
}

static void shard_in_children(void)
{
    char text[1024];
    begin();
    mc_trace_thread(NUMBER);
    parents_tag = take(USABLE, REQUESTED);
    REQUIRE(parents_tag);
    int status = test_in_child(forked_makes_its_own, 0, text, sizeof(text));
    fputs(text, stderr);
    REQUIRE_EQUAL(status, 0);
    status = test_in_child(forked_has_none, 0, text, sizeof(text));
    fputs(text, stderr);
    REQUIRE_EQUAL(status, 0);
    REQUIRE(mc_trace_is_plain());
    require_sums(1, 0);
    REQUIRE(give(parents_tag));
    require_sums(1, 1);
}

/* The larger the region, the more there are; the last row of the last one is in it, and before the samples. */
static void runs_of(void *megabytes)
{
    uint64_t size = (uint64_t)megabytes << 20, wanted = (uint64_t)megabytes / 64;
    trace(size);
    REQUIRE_EQUAL(mc_area_runs, wanted < 8                  ? 8
                                : wanted > MC_REGION_SHARDS ? MC_REGION_SHARDS
                                                            : wanted);
    uint32_t last = (uint32_t)mc_own_region.areas[MC_AREA_COUNTERS].capacity - 1;
    struct mc_region_narrow *row = mc_counters_row(mc_area_runs - 1, last);
    REQUIRE(mc_counters_make(mc_area_runs - 1, last));
    REQUIRE(mc_counters_own_in(row, (struct mc_amount){1, REQUESTED, USABLE}));
    const struct mc_region_narrow *turns = row + last + 1;
    REQUIRE((const char *)(turns + 1) <= (const char *)mc_area_record(MC_AREA_SAMPLES, 0));
    REQUIRE((const char *)mc_area_record(MC_AREA_SAMPLES, last + 1) <= mc_areas + size);
    mc_region_remove();
}

static void shard_runs_by_size(void)
{
    static const uint64_t sizes[] = {1, 63, 64, 600, 1024, 4096};
    char text[1024];
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        int status = test_in_child(runs_of, (void *)sizes[i], text, sizeof(text));
        fputs(text, stderr);
        REQUIRE_EQUAL(status, 0);
    }
}

static const struct test_case cases[] = {
    {"shard_counts", shard_counts, 0},
    {"shard_is_not_for_all", shard_is_not_for_all, 0},
    {"shard_without_row", shard_without_row, 0},
    {"shard_for_who_counts", shard_for_who_counts, 0},
    {"shard_forgets_what_it_recalled", shard_forgets_what_it_recalled, 0},
    {"shard_is_a_threads_own", shard_is_a_threads_own, 0},
    {"shard_threads", shard_threads, 0},
    {"shard_in_children", shard_in_children, 0},
    {"shard_runs_by_size", shard_runs_by_size, 0}};
TEST_MAIN(cases)
