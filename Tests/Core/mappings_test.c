/* SPDX-License-Identifier: MIT */
/* Mappings: a model of pages, each with the tag it should have, beside the real thing. */
#define _GNU_SOURCE
#include "mappings.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "stacks.h"
#include "traced.h"

enum { PAGES = 400, TAGS = 20, FIRST = 1 << 20 };
static uint8_t owner[PAGES]; /* number of a tag, or 0 */
static uint64_t tags[TAGS + 1];

static uint64_t address_of(unsigned page)
{
    return (uint64_t)(FIRST + page) * MC_PAGE;
}

static void insert(unsigned page, unsigned count, unsigned tag)
{
    REQUIRE(mc_mappings_lock());
    mc_mappings_insert(address_of(page), (uint64_t)count * MC_PAGE, tags[tag]);
    mc_mappings_unlock();
    memset(owner + page, (int)tag, count);
}

static void take_away(unsigned page, unsigned count)
{
    REQUIRE(mc_mappings_lock());
    mc_mappings_remove(address_of(page), (uint64_t)count * MC_PAGE);
    mc_mappings_unlock();
    memset(owner + page, 0, count);
}

static void make_tags(void)
{
    for (unsigned i = 1; i <= TAGS; i++) {
        uint64_t pcs[2] = {0x1000 + i, 0x2000};
        tags[i] = mc_tag_make(mc_stacks_intern(pcs, 2, MC_STACK_MAPPED, (struct mc_stack_alike){0}),
                              0, i);
    }
}

/* Bytes of each tag are those of its pages; nothing is counted twice or lost. */
static void check_against_model(void)
{
    mc_mappings_check();
    for (unsigned i = 1; i <= TAGS; i++) {
        uint64_t pages = 0, runs = 0;
        for (unsigned page = 0; page < PAGES; page++) {
            if (owner[page] != i) continue;
            pages++;
            runs += page == 0 || owner[page - 1] != i;
        }
        struct mc_region_counters sum = sum_of(mc_tag_stack(tags[i]));
        REQUIRE_EQUAL(sum.bytes_in - sum.bytes_out, pages * MC_PAGE);
        REQUIRE_EQUAL(sum.usable_in - sum.usable_out, pages * MC_PAGE);
        REQUIRE(sum.allocs - sum.frees >= runs); /* neighbours of one tag may be two */
        REQUIRE(pages || sum.allocs == sum.frees);
    }
}

static void against_a_model(void)
{
    struct random random = test_random(70);
    trace(64 << 20);
    make_tags();
    for (uint64_t i = 0; i < test_scale(30000); i++) {
        unsigned page = (unsigned)random_below(&random, PAGES);
        unsigned most = PAGES - page < 60 ? PAGES - page : 60;
        unsigned count = 1 + (unsigned)random_below(&random, most);
        if (random_below(&random, 3))
            insert(page, count, 1 + (unsigned)random_below(&random, TAGS));
        else
            take_away(page, count);
        if (i % 50 == 0) check_against_model();
    }
    take_away(0, PAGES);
    check_against_model();
    REQUIRE_EQUAL(mc_mappings_count, 0);
    REQUIRE_EQUAL(mc_own_region.missed_maps, 0);
}

/* A hole makes two of one; each end shortens it. */
static void cuts(void)
{
    trace(64 << 20);
    make_tags();
    insert(10, 10, 1);
    take_away(14, 2);
    struct mc_region_counters sum = sum_of(mc_tag_stack(tags[1]));
    REQUIRE(mc_mappings_count == 2 && sum.allocs == 2 && sum.frees == 0);
    take_away(8, 3);
    take_away(19, 5);
    sum = sum_of(mc_tag_stack(tags[1]));
    REQUIRE(mc_mappings_count == 2 && sum.allocs == 2 && sum.frees == 0);
    REQUIRE_EQUAL(sum.bytes_in - sum.bytes_out, 6 * MC_PAGE);
    take_away(0, PAGES);
    sum = sum_of(mc_tag_stack(tags[1]));
    REQUIRE(mc_mappings_count == 0 && sum.frees == 2 && sum.bytes_in == sum.bytes_out);
}

/* More than there is room for: what finds none is counted, the rest is right. */
static void too_many(void)
{
    trace(64 << 20);
    make_tags();
    enum { MANY = (1 << 16) + 100 };
    REQUIRE(mc_mappings_lock());
    for (uint64_t i = 0; i < MANY; i++)
        mc_mappings_insert((FIRST + 2 * i) * MC_PAGE, MC_PAGE, tags[1]);
    REQUIRE_EQUAL(mc_mappings_count, 1 << 16);
    REQUIRE_EQUAL(mc_own_region.missed_maps, 100);
    struct mc_region_counters sum = sum_of(mc_tag_stack(tags[1]));
    REQUIRE(sum.allocs == 1 << 16 && sum.bytes_in == (uint64_t)MC_PAGE << 16);
    mc_mappings_remove(FIRST * (uint64_t)MC_PAGE, 2ull * MANY * MC_PAGE);
    mc_mappings_unlock();
    sum = sum_of(mc_tag_stack(tags[1]));
    REQUIRE(mc_mappings_count == 0 && sum.frees == 1 << 16 && sum.bytes_in == sum.bytes_out);
}

/* -- several at once ----------------------------------------------------------------------- */

enum { WORKERS = 4 };

static void *map_and_unmap(void *argument)
{
    uint64_t number = (uint64_t)argument, base = (FIRST + number * 4096) * MC_PAGE;
    struct random random = test_random(number);
    for (uint64_t i = 0; i < test_scale(20000); i++) {
        uint64_t start = base + random_below(&random, 64) * 16 * MC_PAGE;
        REQUIRE(mc_mappings_lock());
        if (random_below(&random, 2))
            mc_mappings_insert(start, 16 * MC_PAGE, tags[1 + number]);
        else
            mc_mappings_remove(start, 16 * MC_PAGE);
        mc_mappings_unlock();
    }
    REQUIRE(mc_mappings_lock());
    mc_mappings_remove(base, 4096ull * MC_PAGE);
    mc_mappings_unlock();
    return 0;
}

static void threads(void)
{
    pthread_t workers[WORKERS];
    trace(64 << 20);
    make_tags();
    for (uint64_t i = 0; i < WORKERS; i++)
        REQUIRE(!pthread_create(&workers[i], 0, map_and_unmap, (void *)i));
    for (unsigned i = 0; i < WORKERS; i++)
        REQUIRE(!pthread_join(workers[i], 0));
    mc_mappings_check();
    REQUIRE_EQUAL(mc_mappings_count, 0);
    for (unsigned i = 1; i <= WORKERS; i++) {
        struct mc_region_counters sum = sum_of(mc_tag_stack(tags[i]));
        REQUIRE(sum.allocs == sum.frees && sum.bytes_in == sum.bytes_out);
    }
}

/* -- a handler, a child -------------------------------------------------------------------- */

static void unmap_in_handler(int number)
{
    (void)number;
    REQUIRE(!mc_mappings_lock()); /* it is its own thread's */
    mc_mappings_leave(address_of(10), 5 * MC_PAGE);
    mc_mappings_leave(address_of(17), MC_PAGE);
}

static void handler(void)
{
    trace(64 << 20);
    make_tags();
    insert(10, 8, 3);
    signal(SIGUSR1, unmap_in_handler);
    REQUIRE(mc_mappings_lock());
    raise(SIGUSR1);
    REQUIRE_EQUAL(mc_mappings_count, 1); /* not yet */
    mc_mappings_unlock();
    struct mc_region_counters sum = sum_of(mc_tag_stack(tags[3]));
    REQUIRE_EQUAL(sum.bytes_in - sum.bytes_out, 2 * MC_PAGE);
    for (unsigned i = 0; i < 40; i++) /* more than the list holds */
        mc_mappings_leave(address_of(100), MC_PAGE);
    REQUIRE_EQUAL(mc_own_region.missed_maps, 8);
    REQUIRE(mc_mappings_lock());
    mc_mappings_unlock();
    mc_mappings_check();
}

static void become_child(int locked)
{
    const char *failed = "";
    int error = mc_region_create_forked(&options, &failed);
    REQUIRE_EQUAL(error, 0);
    mc_trace_after_fork(error);
    mc_mappings_after_fork(1);
    mc_os_fork_done();
    REQUIRE_EQUAL(mc_mappings_count, locked ? 0 : 2);
    struct mc_region_counters sum = sum_of(mc_tag_stack(tags[2]));
    REQUIRE_EQUAL(sum.bytes_in - sum.bytes_out, locked ? 0 : 3 * MC_PAGE);
    insert(50, 4, 4); /* the lock is free */
    sum = sum_of(mc_tag_stack(tags[4]));
    REQUIRE(sum.bytes_in == 4 * MC_PAGE && sum.allocs == 1);
    mc_region_remove();
}

static void child(void *locked)
{
    become_child(locked != 0);
}

static void *hold_the_lock(void *argument)
{
    int *pipes = argument;
    char byte = 0;
    REQUIRE(mc_mappings_lock());
    REQUIRE(write(pipes[1], &byte, 1) == 1 && read(pipes[2], &byte, 1) == 1);
    mc_mappings_unlock();
    return 0;
}

/* A child knows what it inherited; if the lock was taken, nothing is certain, and it knows nothing. */
static void forks(void)
{
    char text[1024], byte = 0;
    int pipes[4];
    pthread_t holder;
    trace(64 << 20);
    make_tags();
    insert(10, 3, 2);
    insert(20, 8, 3);
    REQUIRE_EQUAL(test_in_child(child, 0, text, sizeof(text)), 0);
    REQUIRE(!pipe(pipes) && !pipe(pipes + 2));
    int held[3] = {0, pipes[1], pipes[2]};
    REQUIRE(!pthread_create(&holder, 0, hold_the_lock, held));
    REQUIRE(read(pipes[0], &byte, 1) == 1);
    int status = test_in_child(child, (void *)1, text, sizeof(text));
    fputs(text, stderr);
    REQUIRE_EQUAL(status, 0);
    REQUIRE(write(pipes[3], &byte, 1) == 1);
    REQUIRE(!pthread_join(holder, 0));
    REQUIRE_EQUAL(mc_mappings_count, 2);
    check_against_model();
}

static const struct test_case cases[] = {
    {"mappings_model", against_a_model, 0}, {"mappings_cuts", cuts, 0},
    {"mappings_too_many", too_many, 0},     {"mappings_threads", threads, 0},
    {"mappings_handler", handler, 0},       {"mappings_forks", forks, 0},
};
TEST_MAIN(cases)
