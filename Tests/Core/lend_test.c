/* SPDX-License-Identifier: MIT */
/* When slots of a coarser class serve a request, and when not. */
#include "lend.h"

#include <string.h>

#include "class.h"
#include "span.h"
#include "test.h"
#include "thread.h"

enum { SIZE = 3000, COARSE = 3500, COUNT = 64 };

static unsigned count;
static void *objects[2 * COUNT];

static struct mc_span *current(size_t size)
{
    return (struct mc_span *)mc_self->current[mc_class_for(size)];
}

static void *alloc(size_t size)
{
    REQUIRE(count < 2 * COUNT);
    void *object = objects[count++] = mc_alloc(size);
    memset(object, 0x5a, size);
    return object;
}

static uint64_t slot_of(const void *object)
{
    return mc_span_of(object)->slot_size;
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

static const struct test_case cases[] = {
    {"used_before_fresh", used_before_fresh, 0}, {"own_first", own_first, 0},
    {"not_too_coarse", not_too_coarse, 0},       {"not_to_all", not_to_all, 0},
    {"counts_bytes", counts_bytes, 0},
};
TEST_MAIN(cases)
