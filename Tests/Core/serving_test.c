/* SPDX-License-Identifier: MIT */
/* The slots that are about to be served: where they come from, and that they go back. */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "cache.h"
#include "ended.h"
#include "limits.h"
#include "refill.h"
#include "serving.h"
#include "span.h"
#include "test.h"

enum { SIZE = 64, CLASS = SIZE / MC_QUANTUM - 1, A_PAGE = 4096 / SIZE };

static void *objects[A_PAGE];

static struct mc_serving *serving(void)
{
    return mc_serving_of(mc_self, CLASS);
}

static uint64_t live(void)
{
    struct mc_heap_totals totals;
    mc_heap_totals(&totals);
    return totals.used_slots;
}

static void take(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        REQUIRE(objects[i] = mc_alloc(SIZE));
}

/* A page's slots are taken at once; what is freed meanwhile is served when they are gone, before
 * another page is touched, and counts as free all the time. */
static void freed_are_next(void)
{
    take(1);
    struct mc_span *span = mc_span_of(objects[0]);
    uint64_t others = live() - 1;
    REQUIRE_EQUAL(mc_serving_count(serving()), A_PAGE - 1);
    REQUIRE(serving()->span == (uint64_t)span && !span->free);
    REQUIRE_EQUAL(span->used, A_PAGE + 1); /* CURRENT */
    for (unsigned round = 0; round < 5 * A_PAGE; round++) {
        mc_free(objects[0]);
        REQUIRE_EQUAL(live(), others);
        REQUIRE(objects[0] = mc_alloc(SIZE));
        REQUIRE_EQUAL(live(), others + 1);
        REQUIRE(mc_span_of(objects[0]) == span && span->fresh == A_PAGE);
        mc_heap_check();
    }
    mc_free(objects[0]);
    mc_heap_check();
}

/* A slot that is about to be served is free: freeing it again is found, and of any thread. */
static void *free_first(void *object)
{
    mc_free(object);
    return 0;
}

static void free_elsewhere(void *object)
{
    pthread_t thread;
    pthread_create(&thread, 0, free_first, object);
    pthread_join(thread, 0);
}

static void free_here(void *object)
{
    free_first(object);
}

static void must_panic(void (*function)(void *), void *object)
{
    char text[1024];
    int status = test_in_child(function, object, text, sizeof(text));
    REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(text, "double free"));
}

static void double_free(void)
{
    take(A_PAGE);
    for (unsigned i = 0; i < 3; i++)
        mc_free(objects[i]);
    void *object = mc_alloc(SIZE), *next = (void *)serving()->free;
    REQUIRE(object && next);
    must_panic(free_here, next);
    must_panic(free_elsewhere, next);
    mc_heap_check();
}

/* An empty span is unmade though its slots were to be served. */
static void empty_leaves(void)
{
    take(3);
    struct mc_span *span = mc_span_of(objects[0]);
    for (unsigned i = 0; i < 3; i++)
        mc_free(objects[i]);
    REQUIRE(mc_serving_count(serving()) && span->state == MC_SPAN_CLASS);
    mc_refill_flush(mc_self, 0);
    REQUIRE(span->state != MC_SPAN_CLASS && !mc_serving_count(serving()));
    mc_heap_check();
    take(2);
    mc_refill_flush(mc_self, 0); /* one in use: it stays */
    span = mc_span_of(objects[0]);
    REQUIRE(span->state == MC_SPAN_CLASS);
    REQUIRE_EQUAL(mc_serving_count(serving()), A_PAGE - 2);
    mc_serving_return_all(mc_self);
    REQUIRE(!serving()->free && !mc_serving_count(serving()));
    REQUIRE_EQUAL(span->used, 2 + 1);
    mc_heap_check();
    REQUIRE(mc_span_of(mc_alloc(SIZE)) == span && span->fresh == A_PAGE);
    mc_heap_check();
}

static void *free_all(void *count)
{
    mc_free(mc_alloc(1)); /* a thread that never allocates caches nothing */
    for (unsigned i = 0; i < (unsigned)(uint64_t)count; i++)
        mc_free(objects[i]);
    mc_heap_check();
    /* From what it cached: slots of the other thread. */
    void *object = mc_alloc(SIZE);
    REQUIRE(object && mc_span_of(object)->owner != (uint64_t)mc_self);
    REQUIRE(!serving()->span && mc_serving_count(serving()) > 0);
    mc_heap_check();
    mc_free(object);
    mc_serving_return_cached(mc_self);
    REQUIRE(!serving()->free);
    mc_heap_check();
    REQUIRE(object = mc_alloc(SIZE));
    mc_heap_check();
    mc_free(object);
    return 0;
}

static void cached_are_served(void)
{
    take(4 * MC_CACHE_SERVES);
    uint64_t others = live() - 4 * MC_CACHE_SERVES;
    pthread_t thread;
    REQUIRE(!pthread_create(&thread, 0, free_all, (void *)(uint64_t)(4 * MC_CACHE_SERVES)));
    REQUIRE(!pthread_join(thread, 0));
    REQUIRE_EQUAL(live(), others);
    mc_threads_reap(); /* gives all back that the thread was about to serve */
    mc_refill_collect(mc_self);
    REQUIRE_EQUAL(live(), others);
    mc_heap_check();
}

static const struct test_case cases[] = {
    {"serving_freed_are_next", freed_are_next, 0},
    {"serving_double_free", double_free, 0},
    {"serving_empty_leaves", empty_leaves, 0},
    {"serving_cached", cached_are_served, 0},
};
TEST_MAIN(cases)
