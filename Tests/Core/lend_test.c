/* SPDX-License-Identifier: MIT */
/* When slots of a coarser class serve a request, and when not. */
#include "lend.h"
#include "reuse.h"

#include <string.h>

#include "class.h"
#include "hooks.h"
#include "span.h"
#include "test.h"
#include "thread.h"

enum { SIZE = 3000, COARSE = 3500, COUNT = 2048 };

static unsigned count;
static void *objects[COUNT];

static struct mc_span *current(size_t size)
{
    return (struct mc_span *)mc_self->current[mc_class_for(size)];
}

static void *alloc(size_t size)
{
    REQUIRE(count < COUNT);
    void *object = objects[count++] = mc_alloc(size);
    memset(object, 0x5a, size);
    return object;
}

static uint64_t slot_of(const void *object)
{
    return mc_slot_size(mc_span_of(object));
}

/* Slots of both classes, of which all but fresh ones are in use. */
static void use_up(void)
{
    alloc(SIZE);
    alloc(COARSE);
    while (current(SIZE)->free || current(COARSE)->free)
        alloc(current(SIZE)->free ? SIZE : COARSE);
    REQUIRE(current(SIZE)->fresh < current(SIZE)->slot_count);
    REQUIRE_EQUAL(mc_lend_class(mc_self, mc_class_for(SIZE)), mc_class_for(SIZE));
}

static void used_before_fresh(void)
{
    use_up();
    void *freed = alloc(COARSE);
    while (current(COARSE)->free)
        alloc(COARSE);
    uint16_t fresh = current(SIZE)->fresh;
    mc_free(freed);
    REQUIRE(mc_alloc(SIZE) == freed);
    REQUIRE_EQUAL(mc_usable_size(freed, ""), 3584);
    REQUIRE_EQUAL(current(SIZE)->fresh, fresh);
    mc_heap_check();
    /* There are no more. */
    REQUIRE_EQUAL(slot_of(mc_alloc(SIZE)), 3072);
    REQUIRE(current(SIZE)->fresh > fresh);
    mc_heap_check();
}

/* Slots of the class itself go first, also those of a span that was full, and zero is zero. */
static void own_first(void)
{
    void *own = alloc(SIZE), *coarse = alloc(COARSE);
    use_up();
    mc_free(own);
    mc_free(coarse);
    REQUIRE(mc_alloc(SIZE) == own);
    unsigned char *zero = mc_alloc_slow(SIZE, 1);
    REQUIRE(zero == coarse);
    for (unsigned i = 0; i < SIZE; i++)
        REQUIRE_EQUAL(zero[i], 0);
    mc_heap_check();
}

/* The nearest lends, and none beyond MC_LEND_STEPS. */
static void not_too_coarse(void)
{
    void *near = alloc(3300), *far = alloc(4000), *too_far = alloc(4600);
    use_up();
    mc_free(too_far);
    REQUIRE_EQUAL(slot_of(mc_alloc(SIZE)), 3072);
    while (current(SIZE)->free)
        alloc(SIZE);
    mc_free(far);
    mc_free(near);
    REQUIRE(mc_alloc(SIZE) == near);
    while (current(3300)->free)
        alloc(3300);
    REQUIRE(mc_alloc(SIZE) == far);
    mc_heap_check();
}

/* What is traced, and what is to be aligned, lies in slots of its own class. */
static void not_to_all(void)
{
    void *coarse = alloc(COARSE);
    use_up();
    mc_free(coarse);
    REQUIRE_EQUAL(slot_of(mc_alloc_owned(SIZE, MC_QUANTUM, 0)), 3072);
    while (current(SIZE)->free)
        alloc(SIZE);
    void *aligned = mc_alloc_aligned(SIZE, 1024);
    REQUIRE_EQUAL((uint64_t)aligned % 1024, 0);
    REQUIRE_EQUAL(slot_of(aligned), 3072);
    mc_heap_check();
}

/* Time passes while slots are lent: a thread that has nothing but such comes to look at the clock. */
static void counts_bytes(void)
{
    void *coarse = alloc(COARSE);
    use_up();
    mc_self->until_look = 100000;
    mc_free(coarse);
    REQUIRE(mc_alloc(SIZE) == coarse);
    REQUIRE_EQUAL(mc_self->until_look, 100000 - 3584);
}

/* -- small classes ------------------------------------------------------------------------- */

enum { SMALL = 32, TWICE = 64, PAGE_OF = MC_PAGE / TWICE };

static int leads_to(size_t size, size_t slot)
{
    return mc_direct_serving(size) == &mc_self->serving[mc_class_for(slot)];
}

/* The class SMALL is out of slots, and a span of TWICE that is not current has `waiting` free ones, which
 * are the first of `objects`. */
static void have_waiting(size_t slot, unsigned waiting)
{
    const struct mc_span *first = mc_span_of(alloc(slot));
    while (mc_span_of(alloc(slot)) == first)
        continue;
    alloc(SMALL);
    while (mc_direct_serving(SMALL)->free)
        alloc(SMALL);
    for (unsigned i = 0; i < waiting; i++)
        mc_free(objects[i]);
    mc_reuse_return(mc_self, &mc_self->serving[mc_class_for(slot)]);
}

/* Half of a page's worth on the list of full spans, the others on one's own. */
static void have_freed(unsigned waiting)
{
    have_waiting(TWICE, 0);
    for (unsigned i = 0; i < waiting; i++)
        mc_free(objects[i]);
}

static void some_are_reused(void)
{
    have_freed(PAGE_OF);
    REQUIRE_EQUAL(slot_of(mc_alloc(SMALL)), TWICE);
    mc_heap_check();
}

static void too_few_are_reused(void)
{
    have_freed(PAGE_OF - 1);
    REQUIRE_EQUAL(slot_of(mc_alloc(SMALL)), SMALL);
    mc_heap_check();
}

static void small_ones_are_led(void)
{
    have_waiting(TWICE, PAGE_OF);
    uint16_t fresh = current(SMALL)->fresh;
    for (unsigned i = 0; mc_direct_serving(TWICE)->free; i++) {
        unsigned char *object = i % 2 ? mc_alloc(SMALL) : mc_alloc_slow(SMALL, 1);
        REQUIRE_EQUAL(slot_of(object), TWICE);
        REQUIRE(i % 2 || (!object[0] && !object[SMALL - 1]));
        REQUIRE(leads_to(SMALL, TWICE) && leads_to(SMALL - 15, TWICE));
        REQUIRE(leads_to(SMALL + 1, 48) && leads_to(16, 16));
        mc_heap_check();
    }
    /* The next come of those that waited. */
    const struct mc_span *first = mc_span_of(objects[0]);
    REQUIRE(mc_span_of(mc_alloc(SMALL)) == first);
    for (unsigned i = 1; i < PAGE_OF; i++)
        REQUIRE(mc_span_of(mc_alloc(SMALL)) == first);
    REQUIRE_EQUAL(current(SMALL)->fresh, fresh);
    mc_heap_check();
    REQUIRE_EQUAL(slot_of(mc_alloc(SMALL)), SMALL);
    REQUIRE(leads_to(SMALL, SMALL) && current(SMALL)->fresh > fresh);
    mc_heap_check();
}

static void too_few_wait(void)
{
    have_waiting(TWICE, PAGE_OF - 1);
    REQUIRE_EQUAL(slot_of(mc_alloc(SMALL)), SMALL);
    REQUIRE(leads_to(SMALL, SMALL));
    mc_heap_check();
}

/* A slot of the class's own that was freed meanwhile serves next. */
static void own_ones_again(void)
{
    have_waiting(TWICE, PAGE_OF);
    void *own = alloc(SMALL);
    while (slot_of(own) != SMALL)
        own = objects[--count];
    mc_free(own);
    while (mc_direct_serving(SMALL)->free)
        mc_alloc(SMALL);
    REQUIRE(leads_to(SMALL, TWICE));
    REQUIRE(mc_alloc(SMALL) == own);
    REQUIRE(leads_to(SMALL, SMALL));
    mc_heap_check();
}

/* When the coarser class is out of slots itself, it is not for others to use what it gets. */
static void lender_needs_them(void)
{
    have_waiting(TWICE, PAGE_OF);
    mc_alloc(SMALL);
    REQUIRE(leads_to(SMALL, TWICE));
    while (mc_direct_serving(TWICE)->free)
        mc_alloc(TWICE);
    REQUIRE_EQUAL(slot_of(mc_alloc(TWICE)), TWICE);
    REQUIRE(leads_to(SMALL, SMALL));
    mc_heap_check();
}

/* No slots of 48 bytes where those of 32 are expected, which are aligned to 32. */
static void as_aligned(void)
{
    have_waiting(48, 2 * PAGE_OF);
    REQUIRE_EQUAL(slot_of(mc_alloc(SMALL)), SMALL);
    mc_heap_check();
}

static void aligned_where_led(void)
{
    have_waiting(TWICE, PAGE_OF);
    mc_alloc(SMALL);
    REQUIRE(leads_to(SMALL, TWICE));
    while (mc_direct_serving(TWICE)->free)
        REQUIRE_EQUAL((uint64_t)mc_alloc_aligned_direct(17, 32) % 32, 0);
    mc_heap_check();
}

static void traced_in_its_own(void)
{
    have_waiting(TWICE, PAGE_OF);
    mc_alloc(SMALL);
    REQUIRE(leads_to(SMALL, TWICE));
    REQUIRE_EQUAL(slot_of(mc_alloc_owned(SMALL, MC_QUANTUM, 0)), SMALL);
    REQUIRE(leads_to(SMALL, SMALL));
    mc_heap_check();
}

/* Nor do slots of a span serve others that has tags. */
static void lender_is_traced(void)
{
    have_waiting(TWICE, PAGE_OF);
    mc_alloc(SMALL);
    REQUIRE(leads_to(SMALL, TWICE));
    void *traced = mc_alloc_owned(TWICE, MC_QUANTUM, 0);
    REQUIRE(mc_tag_set(traced, TWICE, 1) && leads_to(SMALL, SMALL));
    mc_alloc_slow(SMALL, 0);
    REQUIRE(leads_to(SMALL, SMALL));
    mc_heap_check();
    mc_free(traced);
}

/* What the program knows of the traced objects that it has, and what it is told as it frees them. */
static uint64_t traced_usable, freed_usable, freed_count;

static void note_free(void *object, size_t usable, size_t requested, uint64_t tag)
{
    (void)object; /* who frees its own slot is not told */
    REQUIRE(requested == MC_REQUESTED_UNKNOWN && tag == usable - SMALL + 1);
    freed_usable += usable;
    freed_count++;
}

/* Its tag keeps the slack, as tracing's does. */
static void tag(void *object, size_t usable)
{
    REQUIRE_EQUAL(usable, slot_of(object));
    REQUIRE(mc_tag_set(object, SMALL, usable - SMALL + 1));
    traced_usable += usable;
}

static void *alloc_traced(void)
{
    struct mc_tagged tagged;
    void *object = mc_alloc_tagged(SMALL, &tagged);
    if (!object) object = mc_alloc_owned(SMALL, MC_QUANTUM, 0);
    tag(object, mc_usable_size(object, ""));
    return object;
}

/* An object that is there already gets a tag, as by realloc in place, and lies in a lent slot: then its span
 * has tags, and the next traced requests are led there too. Their accounts are those of the slots they have,
 * whatever is not traced beside them. */
static void traced_where_led(void)
{
    enum { TRACED = 300 };
    static void *traced[TRACED], *others[TRACED];
    unsigned coarse = 0;
    on_tagged_free = note_free;
    have_waiting(TWICE, PAGE_OF);
    traced[0] = mc_alloc(SMALL);
    REQUIRE(leads_to(SMALL, TWICE) && slot_of(traced[0]) == TWICE);
    tag(traced[0], TWICE);
    for (unsigned i = 1; i < TRACED; i++) {
        others[i] = mc_alloc(SMALL); /* not traced, of the same spans */
        traced[i] = alloc_traced();
        coarse += slot_of(traced[i]) == TWICE;
        if (i % 50 == 0) mc_heap_check();
    }
    REQUIRE(coarse > 0 && coarse < TRACED - 1);
    for (unsigned i = 1; i < TRACED; i += 2) {
        mc_free(traced[i]);
        mc_free(others[i]);
        traced[i] = mc_alloc(SMALL);
    }
    REQUIRE_EQUAL(freed_count, TRACED / 2);
    uint64_t left = 0;
    for (unsigned i = 0; i < TRACED; i += 2)
        left += slot_of(traced[i]);
    REQUIRE_EQUAL(traced_usable - freed_usable, left);
    for (unsigned i = 0; i < TRACED; i++)
        mc_free(traced[i]);
    REQUIRE_EQUAL(freed_count, TRACED);
    REQUIRE_EQUAL(freed_usable, traced_usable);
    mc_heap_check();
}

static const struct test_case cases[] = {
    {"lent_of_reused", some_are_reused, 0},
    {"too_few_reused", too_few_are_reused, 0},
    {"traced_where_led", traced_where_led, 0},
    {"small_ones_are_led", small_ones_are_led, 0},
    {"too_few_wait", too_few_wait, 0},
    {"own_ones_again", own_ones_again, 0},
    {"lender_needs_them", lender_needs_them, 0},
    {"as_aligned", as_aligned, 0},
    {"aligned_where_led", aligned_where_led, 0},
    {"traced_in_its_own", traced_in_its_own, 0},
    {"lender_is_traced", lender_is_traced, 0},
    {"used_before_fresh", used_before_fresh, 0},
    {"own_first", own_first, 0},
    {"not_too_coarse", not_too_coarse, 0},
    {"not_to_all", not_to_all, 0},
    {"counts_bytes", counts_bytes, 0},
};
TEST_MAIN(cases)
