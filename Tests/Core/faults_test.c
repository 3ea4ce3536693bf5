/* SPDX-License-Identifier: MIT */
/* Memory runs out: every call to the kernel fails once, or for a while, or for good. Allocation
 * returns NULL then, nothing is damaged, and when there is memory again all is well. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>

#include "heap.h"
#include "limits.h"
#include "os_faulty.h"
#include "root.h"
#include "test.h"

enum { COUNT = 600 };
static struct {
    unsigned char *place;
    size_t size, usable;
} objects[COUNT];

static uint64_t failures; /* allocations that returned NULL */

static unsigned char value_of(unsigned number)
{
    return (unsigned char)(number * 37 + 1);
}

static size_t step_of(size_t size)
{
    return size <= 4096 ? 1 : 509;
}

static void check_object(unsigned number)
{
    for (size_t at = 0; at < objects[number].size; at += step_of(objects[number].size))
        REQUIRE_EQUAL(objects[number].place[at], value_of(number));
}

static void keep(unsigned number, void *place, size_t size)
{
    objects[number].place = place;
    objects[number].size = size;
    objects[number].usable = mc_usable_size(place, "");
    REQUIRE(objects[number].usable >= size);
    for (size_t at = 0; at < size; at += step_of(size))
        objects[number].place[at] = value_of(number);
}

static size_t some_size(struct random *random)
{
    uint64_t kind = random_below(random, 100);
    if (kind < 60) return random_below(random, 1024);
    if (kind < 90) return random_below(random, MC_SMALL_MAX);
    return random_below(random, kind < 99 ? 500000 : 2 * MC_LARGE_MAX);
}

static void resize(unsigned number, size_t size)
{
    void *place = mc_realloc_in_place(objects[number].place, size);
    size_t kept = objects[number].size < size ? objects[number].size : size;
    if (!place) {
        place = mc_alloc(size);
        if (!place) {
            failures++;
            REQUIRE_EQUAL(mc_usable_size(objects[number].place, ""), objects[number].usable);
            return;
        }
        memcpy(place, objects[number].place, kept);
        mc_free(objects[number].place);
    }
    objects[number].place = place;
    size_t step = step_of(objects[number].size);
    for (size_t at = 0; at < kept; at += step)
        REQUIRE_EQUAL(objects[number].place[at], value_of(number));
    keep(number, place, size);
}

static void make(struct random *random, unsigned number)
{
    size_t size = some_size(random);
    size_t align = 1ull << random_below(random, 20);
    uint64_t how = random_below(random, 4);
    void *place = how == 0   ? mc_alloc_aligned(size, align)
                  : how == 1 ? mc_alloc_slow(size, 1)
                             : mc_alloc(size);
    if (!place) {
        failures++;
        return;
    }
    for (size_t at = 0; how == 1 && at < size; at++)
        REQUIRE_EQUAL(((unsigned char *)place)[at], 0);
    keep(number, place, size);
}

static void operate(struct random *random)
{
    unsigned number = (unsigned)random_below(random, COUNT);
    if (!objects[number].place) {
        make(random, number);
        return;
    }
    check_object(number);
    if (random_below(random, 3) == 0) {
        resize(number, some_size(random));
    } else if (random_below(random, 8) == 0) {
        uint64_t tag = random_next(random) | 1;
        if (mc_tag_settable(objects[number].place))
            mc_tag_set(objects[number].place, objects[number].size, tag);
    } else {
        mc_free(objects[number].place);
        objects[number].place = 0;
    }
}

static void check_all(void)
{
    struct mc_heap_totals totals;
    uint64_t used = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        if (objects[i].place) {
            check_object(i);
            used += objects[i].usable;
        }
    }
    mc_heap_check();
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used, used);
}

static void end_all(void)
{
    for (unsigned i = 0; i < COUNT; i++) {
        if (objects[i].place) {
            check_object(i);
            mc_free(objects[i].place);
        }
        objects[i].place = 0;
    }
    check_all();
}

static void fail(unsigned kinds, uint64_t at, uint64_t count)
{
    os_faults.kinds = kinds;
    os_faults.calls = 0;
    os_faults.fail_at = at;
    os_faults.fail_count = count;
}

static void *allocate_once(void *out)
{
    *(void **)out = mc_alloc(100);
    return 0;
}

/* The first call of a process, and of a thread, at each of their system calls. */
static void first_calls(void *argument)
{
    uint64_t at = (uint64_t)argument;
    pthread_t thread;
    void *place;
    fail(OS_RESERVE | OS_MAP | OS_COMMIT, at, UINT64_MAX);
    place = mc_alloc(100);
    REQUIRE(!place || at);
    fail(0, 0, 0);
    place = mc_alloc(100);
    REQUIRE(place);
    memset(place, 1, 100);
    fail(OS_RESERVE | OS_MAP | OS_COMMIT, at, UINT64_MAX);
    REQUIRE(!pthread_create(&thread, 0, allocate_once, &place));
    pthread_join(thread, 0);
    fail(0, 0, 0);
    if (place) mc_free(place);
    mc_heap_check();
}

static void first_call(void)
{
    char text[1024];
    for (uint64_t at = 0; at < 12; at++) {
        int status = test_in_child(first_calls, (void *)at, text, sizeof(text));
        fputs(text, stderr);
        REQUIRE_EQUAL(status, 0);
    }
}

/* One call fails, each in turn: with what is kept for later, most requests are met all the same. */
static void nth_call(void)
{
    struct random random = test_random(70);
    static const unsigned kinds[] = {OS_RESERVE, OS_MAP, OS_COMMIT, OS_RESIZE, OS_PURGE, 31};
    for (uint64_t i = 0; i < test_scale(1500); i++) {
        fail(kinds[i % 6], i / 6 % 40, 1 + i % 3);
        for (unsigned k = 0; k < 60; k++)
            operate(&random);
        if (i % 16 == 0) mc_heap_trim();
        if (i % 8 == 0) check_all();
    }
    fail(0, 0, 0);
    end_all();
}

/* Nothing for a while; then a request that was refused is met. */
static void droughts(void)
{
    struct random random = test_random(71);
    for (uint64_t i = 0; i < test_scale(60); i++) {
        fail(OS_RESERVE | OS_MAP | OS_COMMIT | OS_RESIZE | (i % 2 ? OS_PURGE : 0), 0, UINT64_MAX);
        for (unsigned k = 0; k < 1000; k++)
            operate(&random);
        check_all();
        fail(0, 0, 0);
        void *place = mc_alloc_slow(3 * MC_LARGE_MAX, 1);
        REQUIRE(place);
        mc_free(place);
        for (unsigned k = 0; k < 200; k++)
            operate(&random);
        check_all();
    }
    REQUIRE(failures > 100);
    end_all();
}

/* As under RLIMIT_AS: what is freed of one kind is there for every other. */
static void limited(void)
{
    struct random random = test_random(72);
    os_faults.bytes_limit = 24 << 20;
    for (uint64_t i = 0; i < test_scale(100); i++) {
        for (unsigned k = 0; k < 500; k++)
            operate(&random);
        check_all();
        REQUIRE(os_faults.bytes <= os_faults.bytes_limit);
        if (i % 10 == 9) end_all();
    }
    REQUIRE(failures > 10);
    end_all();
    unsigned char *place = mc_alloc(12 << 20); /* half of what there is in one piece */
    REQUIRE(place);
    place[0] = place[(12 << 20) - 1] = 1;
    mc_free(place);
}

/* Small objects with a mapping of their own, since no arena can be had: each has all of a slice, as the page map
 * tells spans by slices. */
static void small_mappings(void)
{
    enum { MAPPINGS = 64 };
    void *places[MAPPINGS];
    fail(OS_RESERVE, 0, UINT64_MAX);
    for (unsigned i = 0; i < MAPPINGS; i++) {
        places[i] = mc_alloc_aligned(5000, i % 2 ? 1 << 19 : 1 << 15);
        REQUIRE(places[i]);
        const struct mc_span *span = mc_span_of(places[i]);
        REQUIRE(span->state == MC_SPAN_HUGE && span->base == (uint64_t)places[i]);
        REQUIRE(span->base % MC_SLICE == 0 && span->size == MC_SLICE);
    }
    mc_heap_check();
    for (unsigned i = 0; i < MAPPINGS; i++)
        mc_free(places[i]);
    REQUIRE_EQUAL(memctl_heap_root.huge_bytes, 0);
    mc_heap_check();
}

/* What growing to 30 MiB takes of calls that make memory accessible, each of which keeps other threads waiting. */
static uint64_t commits_of_growing(void)
{
    enum { OBJECTS = 30 << 6, SIZE = 16 << 10 };
    void *places[OBJECTS];
    fail(OS_COMMIT, UINT64_MAX, 0);
    for (unsigned i = 0; i < OBJECTS; i++) {
        places[i] = mc_alloc(SIZE);
        REQUIRE(places[i]);
        memset(places[i], (int)i, SIZE);
    }
    for (unsigned i = 0; i < OBJECTS; i++)
        mc_free(places[i]);
    mc_heap_check();
    return os_faults.calls;
}

static void few_commits(void)
{
    uint64_t calls = commits_of_growing();
    REQUIRE(calls > 3 && calls < 16);
}

/* Where much at once is refused, what is needed is still had. */
static void small_commits(void)
{
    os_faults.commit_limit = 1 << 20;
    REQUIRE(commits_of_growing() >= 30);
}

/* Refused requests without end cost nothing that adds up. */
static void refused(void)
{
    os_faults.bytes_limit = 16 << 20;
    uint64_t early = 0;
    for (unsigned i = 0; i < 3000; i++) {
        void *place = mc_alloc(300000), *other = mc_alloc(4 << 20);
        REQUIRE(place && other);
        REQUIRE(!mc_alloc(30 << 20));
        mc_free(other);
        mc_free(place);
        REQUIRE(!mc_alloc(40 << 20)); /* takes with it what is idle */
        if (i == 100) early = memctl_heap_root.metadata_bytes;
    }
    REQUIRE(memctl_heap_root.metadata_bytes <= early + MC_META_CHUNK);
}

/* -- huge objects that move ---------------------------------------------------------------- */

enum { HUGE = 3 * (int)MC_LARGE_MAX + 3 * MC_PAGE }; /* no multiple of what the kernel aligns */
static void *newcomer;

/* Another thread's allocation gets the very addresses that a resize has just left. */
static void take_the_old_place(void *start, size_t size)
{
    os_faults.after_resize = 0;
    for (unsigned i = 0; i < 64 && newcomer != start; i++)
        newcomer = mc_alloc(size);
    if (newcomer != start) newcomer = 0;
}

static void moved_away(void)
{
    unsigned char *place = mc_alloc(HUGE);
    place[0] = 7;
    os_faults.resize_moves = 1;
    os_faults.after_resize = take_the_old_place;
    unsigned char *moved = mc_realloc_in_place(place, 2 * HUGE);
    REQUIRE(moved && moved != place && moved[0] == 7);
    if (!newcomer) test_skip("the kernel gives the old place to nobody");
    REQUIRE(mc_span_of(newcomer) && mc_usable_size(newcomer, "") == HUGE);
    mc_free(newcomer);
    mc_free(moved);
    mc_heap_check();
}

/* A resize that fails leaves the object where and as it is. */
static void cannot_move(void)
{
    unsigned char *place = mc_alloc(HUGE);
    place[0] = place[HUGE - 1] = 7;
    fail(OS_RESIZE | OS_MAP, 0, UINT64_MAX);
    REQUIRE(!mc_realloc_in_place(place, 2 * HUGE));
    fail(0, 0, 0);
    REQUIRE(place[0] == 7 && place[HUGE - 1] == 7);
    REQUIRE_EQUAL(mc_usable_size(place, ""), HUGE);
    fail(OS_MAP, 1, UINT64_MAX); /* the page map has no leaf for where it would go */
    os_faults.resize_moves = 1;
    unsigned char *moved = mc_realloc_in_place(place, 2 * HUGE);
    fail(0, 0, 0);
    if (!moved) moved = place;
    REQUIRE(moved[0] == 7 && moved[HUGE - 1] == 7);
    mc_free(moved);
    mc_heap_check();
    REQUIRE_EQUAL(memctl_heap_root.huge_bytes, 0);
}

static const struct test_case cases[] = {
    {"fault_first_call", first_call, 0},
    {"fault_nth_call", nth_call, 480},
    {"fault_small_mappings", small_mappings, 0},
    {"fault_droughts", droughts, 480},
    {"fault_limited", limited, 480},
    {"fault_refused", refused, 0},
    {"fault_few_commits", few_commits, 0},
    {"fault_small_commits", small_commits, 0},
    {"fault_moved_away", moved_away, 0},
    {"fault_cannot_move", cannot_move, 0},
};
TEST_MAIN(cases)
