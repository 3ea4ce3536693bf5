/* SPDX-License-Identifier: MIT */
/* Arenas, alone: runs of slices that are taken, changed, given back and purged. Each run is filled
 * with a number of its own, so that two that overlap, and a run that is said to be zero and isn't,
 * are seen at once; mc_arena_check() looks at the books meanwhile. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "arena.h"
#include "class.h"
#include "meta.h"
#include "root.h"
#include "test.h"

enum { RUNS = 400 };

static void fill_run(const struct mc_run *run, uint64_t value)
{
    for (uint64_t at = 0; at < run->slices * MC_SLICE; at += 1024)
        *(uint64_t *)(run->base + at) = value;
}

static void check_run(const struct mc_run *run, uint64_t value)
{
    for (uint64_t at = 0; at < run->slices * MC_SLICE; at += 1024)
        REQUIRE_EQUAL(*(uint64_t *)(run->base + at), value);
}

static int by_base(const void *a, const void *b)
{
    const struct mc_run *left = a, *right = b;
    return left->base < right->base ? -1 : left->base > right->base;
}

/* Of one arena, and counts them. */
static uint64_t populated_of(const struct mc_arena *arena)
{
    const uint64_t *used = (const uint64_t *)arena->bitmaps + MC_ARENA_USED * arena->words;
    const uint64_t *dirty = (const uint64_t *)arena->bitmaps + MC_ARENA_DIRTY * arena->words;
    uint64_t slices = 0;
    for (uint64_t word = 0; word < arena->slice_count / 64; word++)
        slices += (uint64_t)__builtin_popcountll(dirty[word] & ~used[word]);
    REQUIRE_EQUAL(arena->populated, slices);
    return slices;
}

static uint64_t populated_slices(void)
{
    uint64_t slices = 0;
    mc_arena_check();
    for (uint64_t i = 0; i < MC_ARENAS_MAX && mc_arenas[i]; i++)
        slices += populated_of((const struct mc_arena *)mc_arenas[i]);
    return slices;
}

static void check_apart(const struct mc_run *runs)
{
    struct mc_run sorted[RUNS];
    memcpy(sorted, runs, sizeof(sorted));
    qsort(sorted, RUNS, sizeof(*sorted), by_base);
    for (unsigned i = 1; i < RUNS; i++)
        REQUIRE(sorted[i - 1].base + sorted[i - 1].slices * MC_SLICE <= sorted[i].base);
    populated_slices();
}

static void take_run(struct random *random, struct mc_run *run, uint64_t value)
{
    uint64_t slices = 1 + random_below(random, random_below(random, 3) ? 6 : 200);
    uint64_t align = MC_SLICE << (random_below(random, 3) ? 0 : random_below(random, 8));
    REQUIRE_EQUAL((value % 2 ? mc_arena_take : mc_arena_take_populated)(slices, align, run), 0);
    REQUIRE(run->base % align == 0 && run->slices == slices);
    if (run->fresh == run->slices) check_run(run, 0);
    fill_run(run, value);
}

/* Grows into what follows, if that is free; or gives the end back. */
static void change_run(struct random *random, struct mc_run *run, uint64_t value)
{
    uint64_t slices = 1 + random_below(random, 4);
    if (random_below(random, 2) && run->slices > slices) {
        run->slices -= slices;
        mc_arena_give(run->base + run->slices * MC_SLICE, slices);
    } else if (!mc_arena_take_at(run->base + run->slices * MC_SLICE, slices)) {
        run->slices += slices;
        fill_run(run, value);
    }
}

static void arenas(void)
{
    struct random random = test_random(3);
    static struct mc_run runs[RUNS];
    for (uint64_t i = 0; i < test_scale(20000); i++) {
        uint64_t number = random_below(&random, RUNS);
        struct mc_run *run = &runs[number];
        if (!run->base) {
            take_run(&random, run, number + 1);
        } else if (random_below(&random, 4) == 0) {
            change_run(&random, run, number + 1);
        } else {
            check_run(run, number + 1);
            mc_arena_give(run->base, run->slices);
            *run = (struct mc_run){0};
        }
        if (i % 64 == 0) mc_arena_purge(random_below(&random, 4) == 0);
        if (i % 512 == 0) mc_arena_release_idle();
        if (i % 256 == 0) check_apart(runs);
    }
    uint64_t purged = mc_root()->purged_bytes;
    for (unsigned i = 0; i < RUNS; i++) {
        if (runs[i].base) mc_arena_give(runs[i].base, runs[i].slices);
    }
    mc_arena_purge(1);
    REQUIRE(mc_root()->purged_bytes > purged && !mc_arena_purgeable());
    mc_arena_check();
}

static int is_mapped(uint64_t address)
{
    unsigned char resident;
    return !mincore((void *)address, MC_PAGE, &resident);
}

/* Of any size, also where huge pages may back it, an arena can be used to its end. */
static void arena_sizes(void)
{
    enum { COUNT = 6 };
    static const unsigned mebibytes[COUNT] = {31, 32, 33, 34, 65, 66};
    struct mc_run runs[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        uint64_t size = (uint64_t)mebibytes[i] << 20;
        REQUIRE(!mc_arena_take(size / MC_SLICE, MC_SLICE, &runs[i]));
        unsigned char *first = (unsigned char *)runs[i].base, *last = first + size - 1;
        REQUIRE(*first == 0 && *last == 0);
        *first = *last = 1;
        mc_arena_check();
    }
    for (unsigned i = 0; i < COUNT; i++)
        mc_arena_give(runs[i].base, runs[i].slices);
    mc_arena_purge(1);
    mc_arena_check();
    mc_arena_release_idle();
    mc_arena_check();
}

/* A few slices of huge pages, of an arena that nothing else is in. */
static void take_few(struct mc_run *few, unsigned count)
{
    struct mc_run all;
    REQUIRE(!mc_arena_take(MC_HUGE_ARENA / MC_SLICE, MC_SLICE, &all));
    for (unsigned i = 0; i < count; i++)
        REQUIRE(!mc_arena_take(3, MC_HUGE_PAGE, &few[i]));
}

/* As the kernel does with all of a huge page when a part of it is touched. */
static void populate_around(const struct mc_run *few)
{
    for (uint64_t at = MC_SLICE; at <= MC_HUGE_PAGE; at += MC_SLICE)
        *(unsigned char *)(few->base + at - 1) = 1;
}

static void require_unpopulated(const struct mc_run *few)
{
    for (uint64_t at = MC_SLICE; at <= MC_HUGE_PAGE; at += MC_SLICE)
        REQUIRE(!*(unsigned char *)(few->base + at - 1));
    mc_arena_check();
}

/* What is populated is had first; and what is populated instead of it takes its place. */
static void arena_populated_first(void)
{
    enum { RUN = 100, PART = 60 };
    struct mc_run runs[3], again, part, more;
    for (unsigned i = 0; i < 3; i++) {
        REQUIRE(!mc_arena_take(RUN, MC_SLICE, &runs[i]));
        fill_run(&runs[i], i + 1);
    }
    REQUIRE_EQUAL(populated_slices(), 0);
    mc_arena_give(runs[1].base, RUN);
    REQUIRE_EQUAL(populated_slices(), RUN);
    REQUIRE(!mc_arena_take_populated(RUN, MC_SLICE, &again));
    REQUIRE(again.base == runs[1].base && again.fresh == 0);
    mc_arena_give(again.base, RUN);
    REQUIRE(!mc_arena_take_populated(PART, MC_SLICE, &part));
    REQUIRE(part.base == runs[1].base && part.fresh == 0);
    struct mc_run rest = {part.base + PART * MC_SLICE, RUN - PART, 0};
    REQUIRE(!mc_arena_take_populated(RUN, MC_SLICE, &more));
    REQUIRE_EQUAL(more.fresh, RUN);
    REQUIRE_EQUAL(populated_slices(), 0);
    check_run(&rest, 0);
    check_run(&runs[0], 1);
    check_run(&runs[2], 3);
}

/* Also what a huge page populated beside it goes. */
static void arena_populated_huge(void)
{
    enum { PAGE = MC_HUGE_PAGE / MC_SLICE };
    struct mc_run few[3], more;
    take_few(few, 3); /* each in a page of its own, so that four in a row are behind them */
    populate_around(&few[1]);
    mc_arena_give(few[1].base, few[1].slices);
    REQUIRE_EQUAL(populated_slices(), few[1].slices);
    REQUIRE(!mc_arena_take_populated(4 * PAGE, MC_SLICE, &more));
    REQUIRE(more.base > few[2].base && more.fresh == 4 * PAGE);
    REQUIRE_EQUAL(populated_slices(), few[1].slices); /* no run is long enough to go */
    mc_arena_give(few[0].base, few[0].slices);
    REQUIRE(!mc_arena_take(PAGE / 2, MC_HUGE_PAGE, &few[1]));
    REQUIRE(few[1].base < few[2].base);
    populate_around(&few[1]);
    mc_arena_give(few[1].base, few[1].slices);
    REQUIRE(!mc_arena_take_populated(4 * PAGE, MC_SLICE, &more));
    REQUIRE(more.base > few[2].base);
    require_unpopulated(&few[1]);
}

/* Of many that are free, so much stays populated, but for the pages of huge ones that what goes begins and ends in;
 * of short runs all. */
static void arena_populated_bounded(void)
{
    enum { RUN = 1000, COUNT = 2 * MC_POPULATED_MAX / MC_SLICE / RUN, SHORT = 10 };
    static struct mc_run runs[COUNT], between[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        REQUIRE(!mc_arena_take(RUN, MC_SLICE, &runs[i]));
        REQUIRE(!mc_arena_take(SHORT, MC_SLICE, &between[i]));
    }
    for (unsigned i = 0; i < COUNT; i++) {
        mc_arena_give(runs[i].base, RUN);
        mc_arena_bound_populated();
        uint64_t most = MC_POPULATED_MAX / MC_SLICE, given = (uint64_t)(i + 1) * RUN;
        uint64_t left = populated_slices();
        REQUIRE(left <= most);
        REQUIRE(left + 2 * MC_HUGE_PAGE / MC_SLICE >= (given < most ? given : most));
    }
    mc_arena_purge(1);
    mc_arena_purge(1); /* what is no huge page any more counts anew */
    for (unsigned i = 0; i < COUNT; i++)
        mc_arena_give(between[i].base, SHORT);
    mc_arena_bound_populated();
    REQUIRE_EQUAL(populated_slices(), COUNT * SHORT);
    mc_arena_purge(1);
    REQUIRE_EQUAL(populated_slices(), 0);
}

/* What was populated beside what was asked for goes back with it. */
static void arena_huge_pages_freed(void)
{
    struct mc_run few;
    take_few(&few, 1);
    populate_around(&few);
    mc_arena_give(few.base, few.slices);
    mc_arena_purge(0);
    mc_arena_purge(0);
    require_unpopulated(&few);
}

static void arena_huge_pages_given_at_once(void)
{
    struct mc_run few;
    take_few(&few, 1);
    populate_around(&few);
    uint64_t purged = mc_root()->purged_bytes;
    REQUIRE_EQUAL(mc_arena_give_pages(few.base, few.slices), few.slices * MC_SLICE);
    mc_arena_purge(0);
    mc_arena_purge(0);
    require_unpopulated(&few);
    REQUIRE_EQUAL(mc_root()->purged_bytes - purged, MC_HUGE_PAGE); /* nothing twice */
}

/* Also if there are to be no huge pages any more by then. */
static void arena_huge_pages_waiting(void)
{
    struct mc_run few[2];
    take_few(few, 2);
    populate_around(&few[0]);
    populate_around(&few[1]);
    mc_arena_give(few[0].base, few[0].slices);
    mc_arena_purge(0);
    mc_arena_give(few[1].base, few[1].slices);
    mc_arena_purge(0);
    require_unpopulated(&few[0]);
    mc_arena_purge(0);
    require_unpopulated(&few[1]);
}

/* Address space goes back when a whole arena is free, and what comes after works. */
static void arena_release(void)
{
    struct mc_run run, other;
    REQUIRE_EQUAL(mc_arena_take(100, MC_SLICE, &run), 0);
    fill_run(&run, 7);
    mc_arena_release_idle();
    REQUIRE(is_mapped(run.base));
    check_run(&run, 7);
    mc_arena_give(run.base, run.slices);
    mc_arena_release_idle();
    REQUIRE(!is_mapped(run.base));
    mc_arena_check();
    REQUIRE_EQUAL(mc_arena_purge(1), 0);
    REQUIRE_EQUAL(mc_arena_take(100, MC_SLICE, &other), 0);
    check_run(&other, 0);
    mc_arena_check();
}

/* Arenas that come and go leave nothing behind that adds up. */
static void arena_cycles(void)
{
    struct mc_run run;
    uint64_t after_first = 0;
    for (unsigned i = 0; i < 5000; i++) {
        REQUIRE_EQUAL(mc_arena_take(10, MC_SLICE, &run), 0);
        mc_arena_give(run.base, run.slices);
        mc_arena_release_idle();
        if (i == 10) after_first = mc_root()->metadata_bytes;
    }
    REQUIRE(mc_root()->metadata_bytes <= after_first + MC_META_CHUNK);
}

static uint64_t arena_rounds;

static void *use_arenas(void *argument)
{
    (void)argument;
    uint64_t number = (uint64_t)&number;
    struct random random = test_random(number);
    struct mc_run runs[16] = {0};
    for (uint64_t i = 0; i < arena_rounds; i++) {
        struct mc_run *run = &runs[random_below(&random, 16)];
        if (run->base) {
            check_run(run, number);
            mc_arena_give(run->base, run->slices);
            run->base = 0;
        } else {
            uint64_t slices = 1 + random_below(&random, random_below(&random, 4) ? 3 : 90);
            REQUIRE_EQUAL((i % 2 ? mc_arena_take : mc_arena_take_populated)(slices, MC_SLICE, run),
                          0);
            if (run->fresh == run->slices) check_run(run, 0);
            fill_run(run, number);
        }
        if (i % 100 == 0) mc_arena_purge(i % 300 == 0);
        if (i % 500 == 0) mc_arena_release_idle();
    }
    for (unsigned i = 0; i < 16; i++) {
        if (runs[i].base) mc_arena_give(runs[i].base, runs[i].slices);
    }
    return 0;
}

static void arena_threads(void)
{
    arena_rounds = test_scale(20000);
    test_together(use_arenas, 0);
    mc_arena_purge(1);
    REQUIRE_EQUAL(populated_slices(), 0);
    for (uint64_t i = 0; i < MC_ARENAS_MAX && mc_arenas[i]; i++) {
        const struct mc_arena *arena = (const struct mc_arena *)mc_arenas[i];
        REQUIRE_EQUAL(arena->free_slices, arena->slice_count);
    }
}

/* What one thread makes others may take, or unmake, before it comes to it: that is no shortage. */
static void *use_whole_arenas(void *argument)
{
    struct mc_run run;
    for (uint64_t i = 0; i < arena_rounds; i++) {
        REQUIRE_EQUAL(mc_arena_take(MC_ARENA_SIZE / MC_SLICE, MC_SLICE, &run), 0);
        mc_arena_give(run.base, run.slices);
        mc_arena_release_idle();
    }
    return argument;
}

static void arena_stolen(void)
{
    arena_rounds = test_scale(10000);
    test_together(use_whole_arenas, 0);
    mc_arena_check();
}

static const struct test_case cases[] = {
    {"arenas", arenas, 0},
    {"arena_sizes", arena_sizes, 0},
    {"arena_populated_first", arena_populated_first, 0},
    {"arena_populated_huge", arena_populated_huge, 0},
    {"arena_populated_bounded", arena_populated_bounded, 0},
    {"arena_huge_pages_freed", arena_huge_pages_freed, 0},
    {"arena_huge_pages_given_at_once", arena_huge_pages_given_at_once, 0},
    {"arena_huge_pages_waiting", arena_huge_pages_waiting, 0},
    {"arena_release", arena_release, 0},
    {"arena_cycles", arena_cycles, 0},
    {"arena_threads", arena_threads, 0},
    {"arena_stolen", arena_stolen, 0},
};
TEST_MAIN(cases)
