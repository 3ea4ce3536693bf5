/* SPDX-License-Identifier: MIT */
/* Slots of full spans: the thread has them again first, the spans stay full, and nothing is lost or kept for good. */
#include <pthread.h>
#include <string.h>

#include "cache.h"
#include "ended.h"
#include "heap.h"
#include "held.h"
#include "pagemap.h"
#include "reuse.h"
#include "test.h"
#include "thread.h"
#include "trim.h"

enum { SIZE = 64, SPAN = MC_SLICE / SIZE, SPANS = 80, COUNT = SPANS * SPAN };

static unsigned char *objects[COUNT];

static struct mc_serving *serving(void)
{
    return &mc_self->serving[mc_class_for(SIZE)];
}

static unsigned waiting(void)
{
    return mc_reuse_count(serving()->reuse);
}

static struct mc_span *span_of(unsigned span)
{
    return mc_span_of(objects[span * SPAN]);
}

static int is_full(unsigned span)
{
    return span_of(span)->flags & MC_SPAN_FULL && span_of(span)->used == SPAN;
}

/* As many spans as there can be, full but for the last, and no slot at hand. */
static void fill(void)
{
    for (unsigned i = 0; i < COUNT; i++)
        memset(objects[i] = mc_alloc(SIZE), (int)i, SIZE);
    while (serving()->free)
        mc_alloc(SIZE);
    for (unsigned i = 0; i + 1 < SPANS; i++)
        REQUIRE(is_full(i) && mc_span_of(objects[i * SPAN + SPAN - 1]) == span_of(i));
    REQUIRE(!waiting());
}

static void require_live(uint64_t slots)
{
    struct mc_heap_totals totals;
    mc_heap_check();
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used, slots * SIZE);
}

static uint64_t live(void)
{
    struct mc_heap_totals totals;
    mc_heap_totals(&totals);
    return totals.used / SIZE;
}

/* Of whichever span, last freed first; too few of them wait. */
static void had_again(void)
{
    fill();
    unsigned few = mc_reuse_room(mc_class_for(SIZE)) / MC_REUSE_SERVES;
    uint64_t all = live();
    for (unsigned i = 0; i + 1 < few; i++)
        mc_free(objects[i * SPAN + i]);
    require_live(all - few + 1);
    const unsigned char *fresh = mc_alloc(SIZE);
    for (unsigned i = 0; i + 1 < few; i++)
        REQUIRE(fresh != objects[i * SPAN + i]);
    while (serving()->free)
        mc_alloc(SIZE);
    all = live();
    mc_free(objects[(few - 1) * SPAN]);
    objects[(few - 1) * SPAN + few - 1] = objects[(few - 1) * SPAN];
    for (unsigned i = few; i-- > 0;) {
        REQUIRE(mc_alloc(SIZE) == objects[i * SPAN + i]);
        require_live(all - 1 + few - i);
        REQUIRE(is_full(i));
    }
    REQUIRE(!waiting() && !serving()->free);
}

/* What is freed while they are served waits for the next turn. */
static void by_turns(void)
{
    fill();
    uint64_t all = live();
    for (unsigned i = 0; i < 40; i++)
        mc_free(objects[i * SPAN]);
    for (unsigned round = 0; round < 1000; round++) {
        unsigned place = round * 7 % 40 * SPAN;
        objects[place] = mc_alloc(SIZE);
        mc_free(objects[place + 1 + round % 50]);
        objects[place + 1 + round % 50] = mc_alloc(SIZE);
        mc_free(objects[place]);
        if (round % 100 == 0) require_live(all - 40);
    }
    for (unsigned i = 0; i < 40; i++)
        REQUIRE(is_full(i));
}

/* Half of more than it may have goes to the spans, those that came first; these take the next frees themselves. */
static void overflows(void)
{
    fill();
    unsigned room = mc_reuse_room(mc_class_for(SIZE));
    uint64_t all = live();
    for (unsigned i = 0; i + 1 < room; i++)
        mc_free(objects[i * SPAN]);
    REQUIRE(waiting() == room - 1 && is_full(0));
    mc_free(objects[(room - 1) * SPAN]);
    REQUIRE_EQUAL(waiting(), room / 2);
    for (unsigned i = 0; i < room; i++)
        REQUIRE_EQUAL(is_full(i), i >= room / 2);
    require_live(all - room);
    mc_free(objects[1]);
    mc_free(objects[room / 2 * SPAN + 1]);
    REQUIRE(waiting() == room / 2 + 1 && span_of(0)->used == SPAN - 2);
    require_live(all - room - 2);
}

/* All slots of a span, one after the other: it is empty as soon as the last of them goes back. */
static void spans_empty(void)
{
    fill();
    uint64_t held = mc_self->held;
    for (unsigned i = 0; i < 4 * SPAN; i++)
        mc_free(objects[i]);
    REQUIRE(waiting());
    mc_heap_check();
    mc_heap_trim();
    mc_heap_check();
    REQUIRE(!waiting());
    REQUIRE_EQUAL(held - mc_self->held, 4 * MC_SLICE);
}

/* As at a tick. */
static void go_back(void)
{
    fill();
    uint64_t all = live();
    for (unsigned i = 0; i < 40; i++)
        mc_free(objects[i * SPAN]);
    mc_alloc(SIZE);
    REQUIRE(mc_reuse_is_served(serving()->reuse) && serving()->free);
    for (unsigned i = 0; i < 10; i++)
        mc_free(objects[i * SPAN + 1]);
    REQUIRE_EQUAL(waiting(), 10);
    require_live(all - 49);
    mc_serving_return_cached(mc_self);
    REQUIRE(!serving()->free && !waiting());
    require_live(all - 49);
    for (unsigned i = 0; i < 39; i++)
        REQUIRE_EQUAL(span_of(i)->used, SPAN - 1 - (i < 10));
}

static void *leave(void *unused)
{
    fill();
    for (unsigned i = 0; i < 30; i++)
        mc_free(objects[i * SPAN]);
    REQUIRE_EQUAL(waiting(), 30);
    return unused;
}

/* Of a thread that ended others have them. */
static void inherited(void)
{
    pthread_t thread;
    mc_free(mc_alloc(SIZE)); /* a struct of its own */
    REQUIRE(!pthread_create(&thread, 0, leave, 0));
    pthread_join(thread, 0);
    uint64_t all = live();
    mc_threads_reap();
    require_live(all);
    for (unsigned i = 0; i < 30; i++)
        REQUIRE(!is_full(i) && span_of(i)->used == SPAN - 1);
    unsigned again = 0;
    for (unsigned i = 0; i < 4 * SPAN; i++) {
        const void *object = mc_alloc(SIZE);
        for (unsigned k = 0; k < 30; k++)
            again += object == objects[k * SPAN];
    }
    REQUIRE_EQUAL(again, 30);
    mc_heap_check();
}

/* Slots that are had again can have tags, and then go to their span. */
static void traced(void)
{
    struct mc_tagged tagged;
    fill();
    for (unsigned i = 0; i < 40; i++)
        mc_free(objects[i * SPAN]);
    mc_alloc(SIZE);
    REQUIRE(!mc_alloc_tagged(SIZE, &tagged)); /* which span it is of is not known there */
    unsigned char *object = mc_alloc_owned(SIZE, MC_QUANTUM, 0);
    REQUIRE(object == objects[38 * SPAN] && mc_tag_set(object, SIZE, 5));
    mc_heap_check();
    mc_free(objects[38 * SPAN + 1]);
    mc_free(object);
    REQUIRE_EQUAL(waiting(), 0);
    REQUIRE_EQUAL(span_of(38)->used, SPAN - 2);
    mc_heap_check();
}

static void free_twice(void *unused)
{
    (void)unused;
    fill();
    mc_free(objects[0]);
    mc_free(objects[SPAN]);
    mc_free(objects[0]);
}

static void wild_ones(void *offset)
{
    fill();
    mc_free(objects[0] + (uint64_t)offset);
}

static void *free_first(void *unused)
{
    mc_free(objects[0]);
    return unused;
}

static void free_twice_elsewhere(void *unused)
{
    pthread_t thread;
    (void)unused;
    fill();
    mc_free(objects[0]);
    if (!pthread_create(&thread, 0, free_first, 0)) pthread_join(thread, 0);
}

static void misuse(void)
{
    char text[200];
    test_in_child(free_twice_elsewhere, 0, text, sizeof(text));
    REQUIRE(strstr(text, "double free"));
    test_in_child(free_twice, 0, text, sizeof(text));
    REQUIRE(strstr(text, "double free"));
    test_in_child(wild_ones, (void *)16, text, sizeof(text));
    REQUIRE(strstr(text, "inside an object"));
}

/* Other threads free what the owner has not, of the same full spans. */
static void *free_others(void *unused)
{
    for (unsigned i = 0; i < 40 * SPAN; i++)
        if (i % SPAN) mc_free(objects[i]);
    mc_cache_flush(mc_self);
    return unused;
}

static void beside_others(void)
{
    pthread_t thread;
    fill();
    uint64_t held = mc_self->held, all = live();
    for (unsigned i = 0; i < 40; i++)
        mc_free(objects[i * SPAN]);
    REQUIRE(!pthread_create(&thread, 0, free_others, 0));
    pthread_join(thread, 0);
    require_live(all - 40 * SPAN);
    mc_heap_trim();
    require_live(all - 40 * SPAN);
    REQUIRE_EQUAL(held - mc_self->held, 40 * MC_SLICE);
}

static const struct test_case cases[] = {
    {"reuse_had_again", had_again, 0},
    {"reuse_by_turns", by_turns, 0},
    {"reuse_overflows", overflows, 0},
    {"reuse_spans_empty", spans_empty, 0},
    {"reuse_go_back", go_back, 0},
    {"reuse_inherited", inherited, 0},
    {"reuse_traced", traced, 0},
    {"reuse_misuse", misuse, 0},
    {"reuse_beside_others", beside_others, 0},
};
TEST_MAIN(cases)
