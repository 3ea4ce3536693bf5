/* SPDX-License-Identifier: MIT */
/* Large and huge objects: what grows and shrinks where it is, what moves with its pages, what freed ones
 * leave for the next. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "heap.h"
#include "hooks.h"
#include "huge.h"
#include "large_kept.h"
#include "limits.h"
#include "os_faulty.h"
#include "pagemap.h"
#include "test.h"

static void fill_bytes(unsigned char *place, size_t size, unsigned value)
{
    for (size_t at = 0; at < size; at += 997)
        place[at] = (unsigned char)(value + at);
}

static void check_bytes(const unsigned char *place, size_t size, unsigned value)
{
    for (size_t at = 0; at < size; at += 997)
        REQUIRE_EQUAL(place[at], (unsigned char)(value + at));
}

static void large_in_place(void)
{
    size_t megabyte = 1 << 20;
    unsigned char *place = mc_alloc(megabyte), *wall;
    fill_bytes(place, megabyte, 3);
    REQUIRE(mc_realloc_in_place(place, megabyte / 2) == place); /* shrinks */
    REQUIRE_EQUAL(mc_usable_size(place, ""), megabyte / 2);
    REQUIRE(mc_realloc_in_place(place, megabyte - 100) == place); /* grows into what it left */
    REQUIRE_EQUAL(mc_usable_size(place, ""), megabyte);
    check_bytes(place, megabyte / 2, 3);
    REQUIRE(mc_realloc_in_place(place, megabyte / 2) == place);
    wall = mc_alloc(megabyte / 2); /* takes what was left */
    while (wall && (wall < place || wall > place + megabyte))
        wall = mc_alloc(megabyte / 8);
    fill_bytes(wall, 4096, 9);
    REQUIRE(!mc_realloc_in_place(place, 2 * megabyte)); /* something is in the way */
    REQUIRE_EQUAL(mc_usable_size(place, ""), megabyte / 2);
    check_bytes(wall, 4096, 9);
    REQUIRE(!mc_realloc_in_place(place, 100)); /* is worth a small slot */
    REQUIRE(!mc_realloc_in_place(place, SIZE_MAX));
    mc_heap_check();
}

static void huge_moves(void)
{
    size_t size = 3 * MC_LARGE_MAX, count = 0;
    struct mc_heap_totals totals;
    unsigned char *place = mc_alloc(size), *moved;
    fill_bytes(place, size, 5);
    for (size_t wanted = size; wanted < 12 * size; wanted += size + 12345, count++) {
        moved = mc_realloc_in_place(place, wanted);
        REQUIRE(moved);
        if (moved != place) REQUIRE(!mc_span_of(place));
        place = moved;
        check_bytes(place, size, 5);
        REQUIRE_EQUAL(mc_usable_size(place, ""), (wanted + 4095) & ~4095ull);
        mc_heap_totals(&totals);
        REQUIRE_EQUAL(totals.huge_bytes, mc_usable_size(place, ""));
        REQUIRE_EQUAL(totals.huge_count, 1);
    }
    place = mc_realloc_in_place(place, MC_LARGE_MAX + 1);
    check_bytes(place, MC_LARGE_MAX, 5);
    REQUIRE((place = mc_realloc_in_place(place, MC_GROW_MAPPED + 1)));
    check_bytes(place, MC_GROW_MAPPED, 5);
    REQUIRE(!mc_realloc_in_place(place, MC_GROW_MAPPED));
    mc_free(place);
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.huge_bytes + totals.huge_count + totals.used, 0);
}

/* A copy made for growth grows where it is, as far as its room reaches, and is never more than asked. */
static void realloc_growing(void)
{
    for (size_t size = MC_GROW_MIN; size <= 1 << 20; size *= 2) {
        struct mc_heap_totals before, after;
        mc_heap_totals(&before);
        unsigned char *place = mc_alloc_growing(size);
        REQUIRE(place);
        place[0] = place[size - 1] = 7;
        size_t room = (MC_GROW_TIMES - 1) * size < MC_GROW_ROOM_MAX ? (MC_GROW_TIMES - 1) * size
                                                                    : MC_GROW_ROOM_MAX;
        for (size_t more = 4096; more <= room; more += room / 8) {
            REQUIRE(mc_realloc_in_place(place, size + more) == place);
            mc_heap_totals(&after);
            REQUIRE_EQUAL(after.used - before.used, mc_usable_size(place, ""));
            REQUIRE(mc_usable_size(place, "") - (size + more) < 4096);
            place[size + more - 1] = 7;
        }
        REQUIRE(place[0] == 7 && place[size - 1] == 7);
        REQUIRE(mc_realloc_in_place(place, size) == place);
        REQUIRE(!mc_realloc_in_place(place, MC_GROW_MIN - 1));
        mc_free(place);
        mc_heap_check();
    }
}

/* As realloc(3) does it. */
static unsigned char *resize(unsigned char *place, size_t size)
{
    unsigned char *same = mc_realloc_short(place, size);
    if (!same) same = mc_realloc_in_place(place, size);
    if (same) return same;
    size_t had = mc_usable_size(place, "");
    unsigned char *fresh =
        size > had && size >= MC_GROW_MIN ? mc_alloc_growing(size) : mc_alloc(size);
    REQUIRE(fresh);
    memcpy(fresh, place, had < size ? had : size);
    mc_free(place);
    return fresh;
}

/* No tick comes between, however slow the machine is: the last one was far ahead. Nothing waits. */
static void stop_ticks(void)
{
    os_faults.ms_ahead = 1ull << 40;
    mc_free(mc_alloc(2 * MC_LARGE_KEPT_MAX));
    os_faults.ms_ahead = 0;
    mc_heap_trim();
}

/* What one object grew to is there for the next that grows. */
static void growth_is_repeated(void)
{
    stop_ticks();
    size_t limit = 3 * MC_GROW_ROOM_MAX / 4;
    unsigned char *place = mc_alloc_growing(MC_GROW_MIN), *again, *neighbour;
    for (size_t size = MC_GROW_MIN; size < limit; size += size / 2)
        place = resize(place, size);
    place = resize(place, limit);
    mc_free(place);
    again = mc_alloc_growing(MC_GROW_MIN);
    REQUIRE(again == place);
    fill_bytes(again, MC_GROW_MIN, 1);
    for (size_t size = MC_GROW_MIN; size < limit; size += size / 2)
        REQUIRE(mc_realloc_in_place(again, size) == place);
    check_bytes(again, MC_GROW_MIN, 1);
    neighbour = mc_alloc_growing(MC_GROW_MIN);
    fill_bytes(neighbour, mc_usable_size(neighbour, ""), 2);
    again = resize(again, 2 * limit);
    fill_bytes(again, 2 * limit, 3);
    check_bytes(neighbour, mc_usable_size(neighbour, ""), 2);
    mc_heap_check();
    mc_free(again);
    mc_free(neighbour);
    mc_heap_check();
}

/* Above MC_GROW_MAPPED an object that grows has a mapping, and moves with its pages. */
static void growth_is_mapped(void)
{
    struct mc_heap_totals totals;
    unsigned char *place = mc_alloc_growing(MC_GROW_MAPPED + 1);
    fill_bytes(place, MC_GROW_MAPPED, 4);
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.huge_count, 1);
    for (size_t size = 2 * MC_GROW_MAPPED; size < 2 * MC_LARGE_MAX; size += size / 3) {
        REQUIRE((place = mc_realloc_in_place(place, size)));
        mc_heap_totals(&totals);
        REQUIRE_EQUAL(totals.huge_bytes, mc_usable_size(place, ""));
        place[size - 1] = 1;
    }
    check_bytes(place, MC_GROW_MAPPED, 4);
    place = resize(place, 100000);
    check_bytes(place, 100000, 4);
    mc_free(place);
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.huge_bytes + totals.huge_count + totals.used, 0);
    mc_heap_check();
}

static size_t resident_pages(void *place, size_t size)
{
    static unsigned char pages[MC_LARGE_MAX / MC_PAGE];
    size_t count = 0;
    REQUIRE(!mincore(place, size, pages));
    for (size_t i = 0; i < size / MC_PAGE; i++)
        count += pages[i] & 1;
    return count;
}

/* All was freed: trimmed, the heap has nothing but free slices. */
static void require_all_goes(void)
{
    struct mc_heap_totals totals;
    mc_heap_trim();
    mc_heap_check();
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used, 0);
    REQUIRE_EQUAL(totals.free_slices, totals.reserved);
}

/* The last large one freed is there for the next, smaller or larger; those before it that would be too much with it
 * wait no more. */
static void large_ones_wait(void)
{
    stop_ticks();
    size_t size = 20 << 20;
    unsigned char *first = mc_alloc(size), *wall = mc_alloc(size), *second = mc_alloc(size), *zeros;
    fill_bytes(first, size, 1);
    fill_bytes(second, size, 2);
    mc_free(first);
    REQUIRE_EQUAL(mc_page_map_find(first)->state, MC_SPAN_WAITING);
    mc_free(second);
    REQUIRE(!mc_page_map_find(first));
    REQUIRE(mc_alloc(size / 2) == second);
    zeros = mc_alloc_slow(size / 3, 1);
    for (size_t at = 0; at < size / 3; at++)
        REQUIRE(!zeros[at]);
    mc_heap_check();
    mc_free(second);
    second = mc_alloc(size + size / 2);
    fill_bytes(second, size + size / 2, 6);
    fill_bytes(zeros, size / 3, 7);
    check_bytes(second, size + size / 2, 6);
    mc_free(second);
    mc_free(zeros);
    mc_free(wall);
    require_all_goes();
}

/* Of several, as many as are not too much together wait for the next, in whatever order they are freed; others
 * leave their pages to whoever comes. The heap is checked last: that reads what is free and clean, which gives it
 * pages of zeros. */
static void large_ones_wait_together(void)
{
    enum { COUNT = 5, SIZE = 9 << 20, KEPT = MC_LARGE_MAX / SIZE };
    unsigned char *places[COUNT], *walls[COUNT];
    stop_ticks();
    for (unsigned i = 0; i < COUNT; i++) {
        places[i] = mc_alloc(SIZE);
        walls[i] = mc_alloc(MC_LARGE_KEPT_MAX);
        fill_bytes(places[i], SIZE, i);
    }
    for (unsigned round = 0; round < 20; round++) {
        unsigned taken = 0;
        for (unsigned i = 0; i < KEPT; i++)
            mc_free(places[(round + i) % KEPT]);
        for (unsigned i = 0; i < KEPT; i++) {
            unsigned char *again = mc_alloc(SIZE - i * MC_PAGE);
            unsigned known = 0;
            while (known < KEPT && again != places[known])
                known++;
            REQUIRE(known < KEPT && !(taken & 1u << known));
            taken |= 1u << known;
            REQUIRE_EQUAL(resident_pages(again, SIZE), SIZE / MC_PAGE);
        }
    }
    for (unsigned i = 0; i < COUNT; i++) {
        size_t pages = 0;
        mc_free(places[i]);
        for (unsigned k = 0; k <= i; k++)
            pages += resident_pages(places[k], SIZE);
        REQUIRE_EQUAL(pages, (i + 1) * (SIZE / MC_PAGE));
    }
    /* What none fits is cut from one of them, and from what that leaves. */
    unsigned char *halves[2 * KEPT];
    for (unsigned i = 0; i < 2 * KEPT; i++) {
        halves[i] = mc_alloc(SIZE / 2);
        REQUIRE_EQUAL(resident_pages(halves[i], SIZE / 2), SIZE / 2 / MC_PAGE);
    }
    for (unsigned i = 0; i < 2 * KEPT; i++)
        mc_free(halves[i]);
    for (unsigned i = 0; i < COUNT; i++)
        mc_free(walls[i]);
    require_all_goes();
}

/* What large objects left is had by the next ones of any size that fits; and for what fits nowhere, as many pages
 * go. */
static void large_ones_leave_pages(void)
{
    enum { COUNT = 7, SIZE = 9 << 20, LARGER = 20 << 20, PAGES = COUNT * (SIZE / MC_PAGE) };
    unsigned char *places[COUNT], *walls[COUNT], *others[COUNT];
    stop_ticks();
    for (unsigned i = 0; i < COUNT; i++) {
        places[i] = mc_alloc(SIZE);
        walls[i] = mc_alloc(MC_LARGE_KEPT_MAX);
        fill_bytes(places[i], SIZE, i);
    }
    for (unsigned i = 0; i < COUNT; i++)
        mc_free(places[i]);
    for (unsigned i = 0; i < COUNT; i++) {
        size_t size = SIZE - i * (64 << 10);
        others[i] = mc_alloc(size);
        REQUIRE_EQUAL(resident_pages(others[i], size), size / MC_PAGE);
    }
    for (unsigned i = 0; i < COUNT; i++)
        mc_free(others[i]);
    unsigned char *larger = mc_alloc(LARGER);
    fill_bytes(larger, LARGER, 0);
    size_t pages = resident_pages(larger, LARGER);
    for (unsigned i = 0; i < COUNT; i++)
        for (unsigned char *at = places[i]; at < places[i] + SIZE; at += MC_PAGE)
            if (at < larger || at >= larger + LARGER) pages += resident_pages(at, MC_PAGE);
    REQUIRE(pages <= PAGES && pages + 2 * MC_HUGE_PAGE / MC_PAGE >= PAGES);
    mc_free(larger);
    for (unsigned i = 0; i < COUNT; i++)
        mc_free(walls[i]);
    require_all_goes();
}

/* The largest with all the room there is to grow on is more than several may be: it waits alone. */
static void large_one_with_room_waits(void)
{
    enum { BEFORE = 6, STAY = 2 }; /* so that there is an arena with room for several */
    unsigned char *before[BEFORE], *place;
    stop_ticks();
    for (unsigned i = 0; i < BEFORE; i++)
        before[i] = mc_alloc(MC_LARGE_MAX);
    for (unsigned i = STAY; i < BEFORE; i++)
        mc_free(before[i]);
    mc_kept_flush_all();
    place = mc_alloc(MC_LARGE_MAX / 2);
    REQUIRE(mc_realloc_in_place(place, MC_LARGE_MAX - MC_PAGE) == place);
    REQUIRE(mc_page_map_find(place)->size > MC_LARGE_MAX);
    fill_bytes(place, MC_LARGE_MAX - MC_PAGE, 8);
    mc_free(mc_alloc(MC_LARGE_MAX / 4));
    mc_free(place);
    uint64_t resident = resident_pages(place, MC_LARGE_MAX), touched = MC_LARGE_MAX / MC_PAGE - 1;
    REQUIRE(resident == touched || (mc_huge_is(MC_HUGE_ALWAYS) && resident == touched + 1));
    mc_heap_check();
    for (unsigned i = 0; i < STAY; i++)
        mc_free(before[i]);
    require_all_goes();
}

enum { IDLE_SIZE = 20 << 20 };
static pthread_barrier_t freed, trimmed;

static void *free_and_idle(void *place)
{
    fill_bytes(place, IDLE_SIZE, 1);
    mc_free(mc_alloc(100));
    mc_free(place);
    pthread_barrier_wait(&freed);
    pthread_barrier_wait(&trimmed);
    return 0;
}

/* What waits on a thread that does nothing any more goes back too when memory is trimmed. */
static void trim_finds_all(void)
{
    stop_ticks();
    pthread_t thread;
    unsigned char *place = mc_alloc(IDLE_SIZE);
    pthread_barrier_init(&freed, 0, 2);
    pthread_barrier_init(&trimmed, 0, 2);
    REQUIRE(!pthread_create(&thread, 0, free_and_idle, place));
    pthread_barrier_wait(&freed);
    REQUIRE(resident_pages(place, IDLE_SIZE) > 0);
    mc_heap_trim();
    REQUIRE_EQUAL(resident_pages(place, IDLE_SIZE), 0);
    pthread_barrier_wait(&trimmed);
    pthread_join(thread, 0);
    mc_heap_check();
}

/* Any thread grows, shrinks and frees what any other has made; the ends of each say whose they are. */
enum { PLACES = 24, GROWERS = 3 };
static uint64_t growing[PLACES];

static void sign(unsigned char *place, size_t size, unsigned char value)
{
    place[0] = place[size / 2] = place[size - 1] = value;
}

static size_t size_of_any(struct random *random)
{
    unsigned kind = (unsigned)random_below(random, 16);
    if (!kind) return 1 + random_below(random, MC_LARGE_MAX);
    return MC_GROW_MIN + random_below(random, kind < 12 ? 100000 : 2 * MC_GROW_MAPPED);
}

static void change(struct random *random, unsigned char **place)
{
    size_t size = size_of_any(random), had = *place ? mc_usable_size(*place, "") : 0;
    unsigned char value = *place ? **place : (unsigned char)random_below(random, 256);
    if (*place) REQUIRE((*place)[had - 1] == value);
    if (!*place) {
        *place = random_below(random, 2) ? mc_alloc_growing(size) : mc_alloc(size);
    } else if (random_below(random, 3)) {
        *place = resize(*place, size > had ? size : had + size / 8);
        REQUIRE((*place)[0] == value && (*place)[had / 2] == value && (*place)[had - 1] == value);
    } else if (random_below(random, 4)) {
        mc_free(*place);
        *place = 0;
    } else {
        *place = resize(*place, size < had ? size : had);
        REQUIRE((*place)[0] == value);
    }
    if (*place) sign(*place, mc_usable_size(*place, ""), value);
}

static pthread_barrier_t all_done;

static void *grow_any(void *stream)
{
    struct random random = test_random((uint64_t)stream);
    for (uint64_t i = 0; i < test_scale(4000); i++) {
        uint64_t *shared = &growing[random_below(&random, PLACES)];
        unsigned char *place = (unsigned char *)mc_take(shared);
        change(&random, &place);
        if (place && mc_usable_size(place, "") > 4 * MC_LARGE_MAX) {
            mc_free(place);
            place = 0;
        }
        uint64_t none = 0;
        if (place && !mc_swap_if(shared, &none, (uint64_t)place)) mc_free(place);
        if (!random_below(&random, 100)) mc_kept_flush_all(); /* as at a tick */
        if (!random_below(&random, 500)) mc_heap_trim();
    }
    /* None ends while another may still look after ended threads. */
    pthread_barrier_wait(&all_done);
    return 0;
}

static void growth_in_threads(void)
{
    pthread_t threads[GROWERS];
    pthread_barrier_init(&all_done, 0, GROWERS);
    os_faults.resize_moves = 1; /* by mmap, which sanitizers see; mremap alone they do not */
    for (uint64_t i = 0; i < GROWERS; i++)
        REQUIRE(!pthread_create(&threads[i], 0, grow_any, (void *)(40 + i)));
    for (unsigned i = 0; i < GROWERS; i++)
        pthread_join(threads[i], 0);
    mc_heap_check();
    for (unsigned i = 0; i < PLACES; i++)
        mc_free((void *)growing[i]);
    mc_heap_check();
}

static const struct test_case cases[] = {
    {"large_in_place", large_in_place, 0},
    {"huge_moves", huge_moves, 0},
    {"realloc_growing", realloc_growing, 0},
    {"growth_is_repeated", growth_is_repeated, 0},
    {"growth_is_mapped", growth_is_mapped, 0},
    {"large_ones_wait", large_ones_wait, 0},
    {"large_ones_wait_together", large_ones_wait_together, 0},
    {"large_ones_leave_pages", large_ones_leave_pages, 0},
    {"large_one_with_room_waits", large_one_with_room_waits, 0},
    {"trim_finds_all", trim_finds_all, 0},
    {"growth_in_threads", growth_in_threads, 480},
};
TEST_MAIN(cases)
