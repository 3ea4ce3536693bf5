/* SPDX-License-Identifier: MIT */
/* Where a thread's next slot comes from: which spans serve before pages are touched, and how many pages come
 * at once. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "heap.h"
#include "limits.h"
#include "reuse.h"
#include "serving.h"
#include "span.h"
#include "test.h"
#include "thread.h"

enum { SIZE = 64, A_PAGE = 4096 / SIZE, SPAN = MC_SLICE / SIZE };

static void *objects[2 * SPAN];

/* Fills a span and a page of the next, which then is the one that serves. Returns that one. */
static struct mc_span *fill(void)
{
    unsigned count = 0;
    struct mc_span *first = 0, *span = 0;
    while (!first || span == first || mc_self->serving[SIZE / MC_QUANTUM - 1].free) {
        REQUIRE(count < 2 * SPAN);
        objects[count] = mc_alloc(SIZE);
        span = mc_span_of(objects[count++]);
        if (!first) first = span;
    }
    REQUIRE_EQUAL(first->used, SPAN);
    REQUIRE_EQUAL(span->fresh, A_PAGE);
    return span;
}

/* Those on a list that all full spans share (reuse.h), and those on the span's own. */
static void used_before_fresh(void)
{
    struct mc_span *second = fill(), *first = mc_span_of(objects[0]);
    for (unsigned i = 0; i < 2 * A_PAGE; i++)
        mc_free(objects[i]);
    for (unsigned i = 0; i < 2 * A_PAGE; i++)
        REQUIRE(mc_span_of(objects[i] = mc_alloc(SIZE)) == first);
    REQUIRE_EQUAL(second->fresh, A_PAGE);
    mc_heap_check();
    REQUIRE(mc_span_of(mc_alloc(SIZE)) == second);
    REQUIRE_EQUAL(second->fresh, 2 * A_PAGE);
    mc_heap_check();
}

static struct mc_serving *serving(void)
{
    return &mc_self->serving[mc_class_for(SIZE)];
}

/* For less than a page's worth the change from span to span is not worth it, nor for a few of full ones. */
static void few_wait(void)
{
    struct mc_span *second = fill();
    unsigned waiting = 0;
    for (; !mc_reuse_is_ready(serving()); waiting++) {
        if (waiting) REQUIRE(mc_span_of(mc_alloc(SIZE)) == second);
        mc_free(objects[waiting]);
    }
    REQUIRE_EQUAL(waiting, mc_reuse_room(mc_class_for(SIZE)) / MC_REUSE_SERVES);
    while (serving()->free)
        mc_alloc(SIZE);
    for (unsigned i = waiting; i < A_PAGE - 1; i++)
        mc_free(objects[i]);
    mc_reuse_return(mc_self, serving());
    REQUIRE(mc_span_of(mc_alloc(SIZE)) == second);
    REQUIRE_EQUAL(second->fresh, 3 * A_PAGE);
    mc_heap_check();
}

/* Spans that have handed out all they had serve again in the order in which they got a slot, and are as they
 * were when that is gone. */
static void full_ones_turn(void)
{
    struct mc_span *first, *second;
    for (unsigned i = 0; i < 2 * SPAN; i++)
        objects[i] = mc_alloc(SIZE);
    first = mc_span_of(objects[0]), second = mc_span_of(objects[SPAN]);
    REQUIRE(first != second && first->flags & MC_SPAN_FULL && !second->free);
    struct mc_span *third = mc_span_of(mc_alloc(SIZE));
    while (mc_direct_serving(SIZE)->free || third->fresh < third->slot_count)
        REQUIRE(mc_span_of(mc_alloc(SIZE)) == third);
    REQUIRE(second->flags & MC_SPAN_FULL);
    mc_free(objects[SPAN + 1]);
    mc_free(objects[0]);
    mc_free(objects[SPAN]);
    REQUIRE(first->flags & second->flags & MC_SPAN_FULL);
    mc_reuse_return(mc_self, serving()); /* the last first */
    REQUIRE(!((first->flags | second->flags) & MC_SPAN_FULL));
    mc_heap_check();
    REQUIRE(mc_alloc(SIZE) == objects[SPAN + 1]);
    REQUIRE(second->flags & MC_SPAN_CURRENT && third->flags & MC_SPAN_FULL);
    mc_heap_check();
    REQUIRE(mc_alloc(SIZE) == objects[SPAN]);
    REQUIRE(mc_alloc(SIZE) == objects[0]);
    REQUIRE_EQUAL(first->used, SPAN + 1);
    REQUIRE(second->flags & MC_SPAN_FULL && second->used == SPAN);
    mc_heap_check();
}

/* -- threads that become smaller ----------------------------------------------------------- */

enum { SIZES = 24, EACH = 40, BULK = 8 << 20 };
static void *mixed[SIZES][EACH];

static size_t mixed_size(unsigned i)
{
    return (size_t)64 << i / 2 |
           (i % 2 ? (size_t)32 << i / 2 : 0); /* to 192 KiB, the last are large */
}

static void make_mixed(void)
{
    for (unsigned i = 0; i < SIZES; i++) {
        for (unsigned n = 0; n < EACH; n++)
            memset(mixed[i][n] = mc_alloc(mixed_size(i)), 1, mixed_size(i));
    }
}

static void free_mixed(void)
{
    for (unsigned i = 0; i < SIZES; i++) {
        for (unsigned n = 0; n < EACH; n++)
            mc_free(mixed[i][n]);
    }
}

/* Bytes of spans of the thread without a slot in use. */
static uint64_t idle(void)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < MC_CLASS_COUNT; i++) {
        const struct mc_span *current = (const struct mc_span *)mc_self->current[i];
        const struct mc_span *kept = (const struct mc_span *)mc_self->kept[i];
        if (mc_serving_is_idle(mc_self, i)) bytes += mc_class_span_size(current);
        if (kept) bytes += mc_class_span_size(kept);
    }
    return bytes;
}

/* Nobody asks it for anything any more, so no tick would. */
static void smaller_gives_back(void)
{
    make_mixed();
    uint64_t most = mc_self->held;
    REQUIRE(most > 8 * MC_IDLE_BYTES);
    free_mixed();
    mc_heap_check();
    REQUIRE(idle() <= 2 * MC_IDLE_BYTES);
    REQUIRE(mc_self->held <= 3 * MC_IDLE_BYTES);
    make_mixed();
    mc_heap_check();
    free_mixed();
    mc_heap_check();
}

/* As long as more is in use than is idle, nothing is given back but second empty spans of a class. */
static void busy_keeps(void)
{
    static void *bulk[BULK / 1024];
    for (unsigned i = 0; i < BULK / 1024; i++)
        bulk[i] = mc_alloc(1024);
    make_mixed();
    free_mixed();
    REQUIRE(idle() > 4 * MC_IDLE_BYTES);
    for (unsigned i = 0; i < BULK / 1024; i++)
        mc_free(bulk[i]);
    REQUIRE(idle() <= 2 * MC_IDLE_BYTES);
    mc_heap_check();
}

/* -- pages that come several at once ------------------------------------------------------- */

enum { GROWN = 3 * MC_GROWN_SPANS };
static void *grown[GROWN * SPAN];

static unsigned resident_pages(const struct mc_span *span)
{
    unsigned char pages[MC_SLICE / 4096];
    unsigned count = 0;
    REQUIRE(!mincore((void *)span->base, MC_SLICE, pages));
    for (unsigned i = 0; i < sizeof(pages); i++)
        count += pages[i] & 1;
    return count;
}

/* The pages of each span when its first page was carved; returns how many spans there were. */
static unsigned grow(unsigned *pages)
{
    unsigned spans = 0;
    const struct mc_span *last = 0;
    for (unsigned i = 0; i < GROWN * SPAN; i++) {
        grown[i] = mc_alloc(SIZE);
        const struct mc_span *span = mc_span_of(grown[i]);
        if (span == last || mc_slot_size(span) != SIZE || span->fresh != A_PAGE) continue;
        REQUIRE(spans < GROWN + 1);
        pages[spans++] = resident_pages(span);
        last = span;
    }
    return spans;
}

/* Whether one comes where one is touched, and more where they are asked for. */
static void need_pages_of_their_own(void)
{
    unsigned char pages[2 * MC_SLICE / 4096];
    size_t size = sizeof(pages) * 4096;
    char *start = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned count = 0;
    if (madvise(start, 4096, 23 /* MADV_POPULATE_WRITE */)) test_skip("this kernel is too old");
    REQUIRE(!mincore(start, size, pages));
    for (unsigned i = 0; i < sizeof(pages); i++)
        count += pages[i] & 1;
    if (count > 1) test_skip("this kernel populates many pages at a time by itself");
    munmap(start, size);
}

static void grown_classes_populate(void)
{
    unsigned pages[GROWN + 1];
    need_pages_of_their_own();
    unsigned spans = grow(pages);
    REQUIRE(spans >= GROWN - 1);
    REQUIRE_EQUAL(mc_self->grown[SIZE / MC_QUANTUM - 1], spans);
    for (unsigned i = 0; i < spans; i++)
        REQUIRE_EQUAL(pages[i], i + 1 < MC_GROWN_SPANS ? 1 : MC_GROWN_PAGES);
    for (unsigned i = 0; i < GROWN * SPAN; i++)
        mc_free(grown[i]);
    REQUIRE_EQUAL(mc_self->grown[SIZE / MC_QUANTUM - 1], 0);
    mc_heap_check();
}

static const struct test_case cases[] = {
    {"full_ones_turn", full_ones_turn, 0},
    {"used_before_fresh", used_before_fresh, 0},
    {"few_wait", few_wait, 0},
    {"smaller_gives_back", smaller_gives_back, 0},
    {"busy_keeps", busy_keeps, 0},
    {"grown_classes_populate", grown_classes_populate, 0},
};
TEST_MAIN(cases)
