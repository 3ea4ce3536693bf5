/* SPDX-License-Identifier: MIT */
/* The clock of births: that it is the kernel's whether its words are found or not, that what only looks like
 * them is not believed, and that whoever comes while they change asks. */
#include "births.h"

#include <pthread.h>
#include <string.h>

#include "clock_words.h"
#include "traced.h"
#include "unwind_machine.h"

/* -- where words are ------------------------------------------------------------------------- */

enum { WORDS = MC_PAGE / sizeof(uint64_t) };
static uint64_t pages[3][WORDS] __attribute__((aligned(MC_PAGE)));
static const uintptr_t addresses[] = {(uintptr_t)pages[0], (uintptr_t)pages[2]};

static const uint64_t *find(uint64_t seconds, uint64_t ns)
{
    struct timespec now = {(time_t)seconds, (long)ns};
    return mc_clock_words_in(addresses, 2, &now);
}

static void clock_words_are_found(void)
{
    enum { SECONDS = 1000, NS = 999999 };
    REQUIRE(!find(SECONDS, NS));
    pages[1][3] = SECONDS, pages[1][4] = NS; /* a page that was not asked for */
    REQUIRE(!find(SECONDS, NS));
    pages[2][WORDS - 1] = SECONDS; /* the page ends */
    REQUIRE(!find(SECONDS, 0) && !find(SECONDS, NS));
    pages[0][8] = SECONDS, pages[0][9] = NS + 1;
    pages[0][11] = NS, pages[0][12] = SECONDS;
    REQUIRE(!find(SECONDS, NS));
    pages[2][WORDS - 2] = SECONDS, pages[2][WORDS - 1] = NS;
    REQUIRE(find(SECONDS, NS) == &pages[2][WORDS - 2]);
    pages[0][0] = SECONDS, pages[0][1] = NS;
    REQUIRE(!find(SECONDS, NS)); /* one of them is something else */
    pages[2][WORDS - 1]++;
    REQUIRE(find(SECONDS, NS) == &pages[0][0]);
}

/* Code on the last page of some, which names what begins `before` bytes before its own page. */
static size_t name(unsigned char *at, unsigned char mode, intptr_t before, uintptr_t *named)
{
    unsigned char *code = (unsigned char *)(pages + 2);
    int32_t distance = (int32_t)(code - before - (at + 5));
    memset(code, 0xcc, MC_PAGE);
    *at = mode;
    memcpy(at + 1, &distance, sizeof(distance));
    return mc_clock_pages_of(code, code + MC_PAGE, named, 1);
}

static void clock_pages_are_those_named(void)
{
    unsigned char *code = (unsigned char *)(pages + 2);
    uintptr_t named[2] = {0}, before = (uintptr_t)code - 2 * MC_PAGE;
    REQUIRE_EQUAL(name(code + 100, 0x3d, MC_PAGE + 8, named), 1);
    REQUIRE_EQUAL(named[0], before);
    REQUIRE_EQUAL(name(code + MC_PAGE - 5, 0x05, MC_PAGE + 8, named), 1); /* the last that can be */
    REQUIRE_EQUAL(name(code + MC_PAGE - 4, 0x05, MC_PAGE + 8, named), 0);
    REQUIRE_EQUAL(name(code + 100, 0x3c, MC_PAGE + 8, named), 0);  /* not from the next */
    REQUIRE_EQUAL(name(code + 100, 0x05, 17 * MC_PAGE, named), 0); /* too far off */
    REQUIRE_EQUAL(name(code + 100, 0x05, 16 * MC_PAGE, named), 1);
    REQUIRE_EQUAL(name(code + 100, 0x05, -16, named), 0); /* its own */
    name(code + 100, 0x05, MC_PAGE + 200, named);
    memcpy(code + 200, code + 100, 5); /* the same page again, a hundred bytes further */
    REQUIRE_EQUAL(mc_clock_pages_of(code, code + MC_PAGE, named, 2), 1);
}

/* -- a clock that the test moves ---------------------------------------------------------------- */

static struct timespec told;
static unsigned asked;

static int tell(clockid_t clock, struct timespec *now)
{
    REQUIRE_EQUAL(clock, CLOCK_MONOTONIC_COARSE);
    asked++;
    *now = told;
    return 0;
}

/* Words that nothing but the test writes. */
static uint64_t its[MC_CLOCK_WORDS];

static void move_to(uint64_t seconds, uint64_t ns)
{
    told = (struct timespec){(time_t)seconds, (long)ns};
    its[MC_CLOCK_SECONDS] = seconds;
    its[MC_CLOCK_NS] = ns;
}

static uint64_t tick_of_it(void)
{
    return (uint64_t)told.tv_sec * 4 + (uint64_t)told.tv_nsec / 250000000;
}

/* 1 if it is the tick, and as many times asked for as said. */
static int is_now(unsigned times)
{
    unsigned before = asked;
    uint64_t tick = mc_births_now_made();
    return tick == tick_of_it() && asked == before + times;
}

static void births_ask_when_the_words_move(void)
{
    mc_births = (struct mc_births){.clock = tell, .words = its};
    move_to(100, 250000000);
    REQUIRE(is_now(1)); /* never asked before */
    for (int i = 0; i < 10; i++)
        REQUIRE(is_now(0));
    move_to(100, 254000000);
    REQUIRE(is_now(1) && is_now(0));
    move_to(101, 254000000); /* asleep for a second */
    REQUIRE(is_now(1) && is_now(0));
    for (unsigned power = 0; power < 22; power++) { /* for very long, to the nanosecond */
        move_to((uint64_t)told.tv_sec + (1u << power), 254000000);
        REQUIRE(is_now(1) && is_now(0));
    }
    /* In the middle of a change: seconds first, nanoseconds first, and seconds without their carry. */
    move_to(101, 999000000);
    REQUIRE(is_now(1));
    told = (struct timespec){102, 3000000};
    its[MC_CLOCK_SECONDS] = 102;
    REQUIRE(is_now(1));
    its[MC_CLOCK_SECONDS] = 101, its[MC_CLOCK_NS] = 3000000;
    REQUIRE(is_now(1));
    its[MC_CLOCK_SECONDS] = 102;
    REQUIRE(is_now(0));
    /* Beyond what a tag holds. */
    told = (struct timespec){1ll << 40, 0};
    its[MC_CLOCK_SECONDS] = 1ull << 40, its[MC_CLOCK_NS] = 0;
    REQUIRE_EQUAL(mc_births_now_made(), MC_BIRTHS_LAST);
    unsigned before = asked;
    REQUIRE_EQUAL(mc_births_now_made(), MC_BIRTHS_LAST);
    REQUIRE_EQUAL(asked, before);
}

static void births_without_words(void)
{
    static const uint64_t none[MC_CLOCK_WORDS] = {UINT64_MAX, UINT64_MAX};
    mc_births = (struct mc_births){.clock = tell, .words = none};
    for (unsigned i = 0; i < 1000; i++) {
        move_to(i / 4, i % 4 * 250000000);
        REQUIRE(is_now(1));
    }
}

/* -- the kernel's ------------------------------------------------------------------------------- */

static uint64_t by_its_code(void)
{
    struct timespec now;
    mc_births.clock(CLOCK_MONOTONIC_COARSE, &now);
    return mc_births_tick(&now) - mc_births.origin;
}

/* For some ticks, each reading between two of the kernel's. */
static void require_ticks(uint64_t ticks)
{
    for (uint64_t end = by_its_code() + ticks, last = 0; last < end;) {
        uint64_t before = by_its_code(), tick = mc_births_now_made(), after = by_its_code();
        REQUIRE(before <= tick && tick <= after && last <= tick);
        last = tick;
    }
}

static void births_by_the_kernels_words(void)
{
    enum { TRIES = 20 }; /* the clock may move each time, or the thread have no processor */
    trace(16 << 20);
    const uint64_t *none = mc_births.words;
    struct timespec now;
    require_ticks(1); /* while they are not confirmed, and after */
    for (int i = 0; i < TRIES && mc_births.words == none; i++) {
        mc_births_look();
        require_ticks(1);
    }
    mc_births.clock(CLOCK_MONOTONIC_COARSE, &now);
    if (mc_clock_words_find(&now)) REQUIRE(mc_births.words != none);
    require_ticks(2);
    mc_births_look(); /* again: nothing changes */
    require_ticks(1);
    mc_region_remove();
}

static void *read_them(void *unused)
{
    require_ticks(2);
    return unused;
}

static void births_threads(void)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    trace(16 << 20);
    for (int i = 0; i < THREADS; i++)
        REQUIRE(!pthread_create(&threads[i], 0, read_them, 0));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], 0);
    mc_region_remove();
}

static const struct test_case cases[] = {
    {"clock_words_are_found", clock_words_are_found, 0},
    {"clock_pages_are_those_named", clock_pages_are_those_named, 0},
    {"births_ask_when_the_words_move", births_ask_when_the_words_move, 0},
    {"births_without_words", births_without_words, 0},
    {"births_by_the_kernels_words", births_by_the_kernels_words, 0},
    {"births_threads", births_threads, 0}};
TEST_MAIN(cases)
