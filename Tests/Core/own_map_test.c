/* SPDX-License-Identifier: MIT */
/* The map of a thread's own spans: what frees find in it, what shares an entry, and what leaves it. */
#define _GNU_SOURCE
#include <pthread.h>

#include "heap.h"
#include "hooks.h"
#include "span.h"
#include "test.h"
#include "thread.h"

static struct mc_span *mapped(const void *object)
{
    return mc_own_map_find(mc_self, (uint64_t)object);
}

static void map_learns(void)
{
    REQUIRE(mapped(mapped) == &mc_self->nothing);
    void *object = mc_alloc(100), *other = mc_alloc(100);
    mc_free(object);
    REQUIRE(mapped(object) == mc_span_of(object));
    struct mc_span *span = mc_span_of(other);
    uint64_t used = (uint64_t)span->used;
    mc_free(other);
    REQUIRE_EQUAL((uint64_t)span->used, used - 1);
    mc_heap_check();
}

/* Slices MC_OWN_MAP_COUNT apart have one entry, which may be of another span than an address is of: each free
 * is that of its own span all the same. */
static void entries_are_shared(void)
{
    enum { SIZE = MC_SLICE, COUNT = 4000 };
    static void *objects[COUNT];
    static struct mc_span *spans[COUNT];
    unsigned shared = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        objects[i] = mc_alloc(SIZE);
        REQUIRE(objects[i]);
        spans[i] = mc_span_of(objects[i]);
    }
    for (unsigned turn = 0; turn < 2; turn++) {
        for (unsigned i = turn; i < COUNT; i += 2) {
            struct mc_span *far = spans[(i + COUNT / 2) % COUNT];
            int is_there = far->state == MC_SPAN_CLASS;
            if (is_there) mc_own_map_set(mc_self, (uint64_t)objects[i], far);
            shared += is_there;
            mc_free(objects[i]);
            REQUIRE(!is_there || mapped(objects[i]) != far || far == spans[i]);
        }
        mc_heap_check();
    }
    REQUIRE(shared >= COUNT / 2);
    struct mc_heap_totals totals;
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used_slots, 0);
}

static void unmade_spans_leave(void)
{
    enum { COUNT = 4000 };
    static void *objects[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        objects[i] = mc_alloc(1024);
    for (unsigned i = 0; i < COUNT; i++)
        mc_free(objects[i]);
    mc_heap_trim();
    unsigned gone = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        if (mc_span_of(objects[i])) continue;
        REQUIRE(mapped(objects[i]) == &mc_self->nothing);
        gone++;
    }
    REQUIRE(gone > COUNT / 2);
    mc_heap_check();
}

static void *left[64];

static void *leave(void *unused)
{
    for (unsigned i = 0; i < 64; i++)
        left[i] = mc_alloc(700);
    for (unsigned i = 0; i < 64; i += 2)
        mc_free(left[i]); /* now its map knows the span */
    return unused;
}

/* A span that a thread left is another's: it is on the map of that one alone. */
static void adopted_spans_leave(void)
{
    pthread_t thread;
    mc_free(mc_alloc(16)); /* this thread has a struct */
    REQUIRE(!pthread_create(&thread, 0, leave, 0));
    pthread_join(thread, 0);
    mc_heap_trim(); /* looks after the ended thread */
    struct mc_span *span = mc_span_of(left[1]);
    struct mc_thread *before = (struct mc_thread *)span->owner;
    REQUIRE(before != mc_self && mc_own_map_find(before, (uint64_t)left[1]) == span);
    for (unsigned i = 0; i < 1000 && span->owner != (uint64_t)mc_self; i++)
        REQUIRE(mc_alloc(700));
    REQUIRE_EQUAL(span->owner, (uint64_t)mc_self);
    REQUIRE(mc_own_map_find(before, (uint64_t)left[1]) == &before->nothing);
    mc_free(left[1]);
    REQUIRE(mapped(left[1]) == span);
    mc_heap_check();
}

static const struct test_case cases[] = {
    {"map_learns", map_learns, 0},
    {"entries_are_shared", entries_are_shared, 0},
    {"unmade_spans_leave", unmade_spans_leave, 0},
    {"adopted_spans_leave", adopted_spans_leave, 0},
};
TEST_MAIN(cases)
