/* SPDX-License-Identifier: MIT */
/* Which memory the kernel is asked to back by huge pages, in each of the three ways, and what of them
 * goes back. Whether there are any is the kernel's choice: all but huge_pages_come() holds without. */
#define _GNU_SOURCE
#include "huge.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "arena.h"
#include "heap.h"
#include "os_faulty.h"
#include "test.h"

enum { PAGE = MC_HUGE_PAGE / MC_SLICE, HALF = PAGE / 2, SMALL_PAGES = MC_HUGE_PAGE / 4096 };

/* -- what the kernel was asked, and what is there -------------------------------------------- */

/* 1 if the mapping that holds the address has this flag in /proc/self/smaps. */
static int has_flag(uint64_t address, const char *flag)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    char line[512];
    unsigned long start, end;
    int inside = 0, found = -1;
    REQUIRE(file != 0);
    while (found < 0 && fgets(line, sizeof(line), file)) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2) inside = start <= address && address < end;
        if (inside && !strncmp(line, "VmFlags:", 8)) found = strstr(line + 8, flag) != 0;
    }
    fclose(file);
    if (found < 0) test_skip("this kernel does not tell what it was asked");
    return found;
}

/* `hg`, `nh` or nothing. */
static const char *advice_of(uint64_t address)
{
    if (has_flag(address, " hg")) return "huge";
    return has_flag(address, " nh") ? "small" : "none";
}

static void require_advice(uint64_t address, const char *advice)
{
    const char *is = advice_of(address);
    if (strcmp(is, advice)) test_fail(__FILE__, __LINE__, is);
}

/* Pages of 4 KiB that are populated. */
static uint64_t resident(uint64_t base, uint64_t size)
{
    static unsigned char pages[64 << 10];
    uint64_t count = 0;
    REQUIRE(size / 4096 <= sizeof(pages) && !mincore((void *)base, size, pages));
    for (uint64_t i = 0; i < size / 4096; i++)
        count += pages[i] & 1;
    return count;
}

static void touch(uint64_t base, uint64_t size)
{
    for (uint64_t at = 0; at < size; at += 4096)
        *(unsigned char *)(base + at) = 1;
}

static const struct mc_arena *arena_with(uint64_t base)
{
    for (uint64_t i = 0; i < MC_ARENAS_MAX && mc_arenas[i]; i++) {
        const struct mc_arena *arena = (const struct mc_arena *)mc_arenas[i];
        if (base - arena->base < arena->slice_count * MC_SLICE) return arena;
    }
    test_fail(__FILE__, __LINE__, "no arena has it");
}

static struct mc_run taken(uint64_t slices, uint64_t align)
{
    struct mc_run run;
    REQUIRE_EQUAL(mc_arena_take(slices, align, &run), 0);
    touch(run.base, slices * MC_SLICE);
    return run;
}

/* -- what is asked for ----------------------------------------------------------------------- */

static void huge_always_from_the_first(void)
{
    mc_heap_huge_pages(MC_HUGE_ALWAYS);
    struct mc_run run = taken(1, MC_SLICE);
    const struct mc_arena *arena = arena_with(run.base);
    REQUIRE(arena->huge && arena->base % MC_HUGE_PAGE == 0);
    REQUIRE_EQUAL(arena->slice_count * MC_SLICE, MC_HUGE_ARENA_FIRST);
    require_advice(run.base, "huge");
    mc_arena_check();
}

static void huge_dense_not_at_first(void)
{
    struct mc_run run = taken(1, MC_SLICE);
    REQUIRE_EQUAL(mc_root()->huge_pages, MC_HUGE_DENSE);
    REQUIRE(!arena_with(run.base)->huge);
    require_advice(run.base, "none");
}

/* Arenas that would have some otherwise. */
static void huge_never(void)
{
    mc_heap_huge_pages(MC_HUGE_NEVER);
    struct mc_run first = taken(1, MC_SLICE);
    require_advice(first.base, "small");
    struct mc_run run = taken(MC_HUGE_ARENA / MC_SLICE, MC_SLICE);
    REQUIRE(!arena_with(run.base)->huge);
    require_advice(run.base, "small");
    mc_arena_check();
}

static void huge_mappings(void)
{
    static const char *const advice[] = {"none", "huge", "small"};
    for (unsigned way = MC_HUGE_DENSE; way <= MC_HUGE_NEVER; way++) {
        mc_heap_huge_pages(way);
        uint64_t object = (uint64_t)mc_alloc(MC_LARGE_MAX + 12345);
        REQUIRE_EQUAL(mc_span_of((void *)object)->state, MC_SPAN_HUGE);
        require_advice(object, advice[way]);
        REQUIRE(way != MC_HUGE_ALWAYS || object % MC_HUGE_PAGE == 0);
        touch(object, MC_LARGE_MAX + 12345);
        mc_free((void *)object);
    }
    mc_heap_check();
}

/* Touching one byte brings as much as for anybody else who asks. */
static void huge_pages_come(void)
{
    enum { SIZE = 2 * MC_HUGE_PAGE };
    char *all = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t page = mc_round_up((uint64_t)all, MC_HUGE_PAGE);
    REQUIRE(all != MAP_FAILED);
    madvise(all, SIZE, MADV_HUGEPAGE);
    touch(page, 1);
    if (resident(page, MC_HUGE_PAGE) < SMALL_PAGES)
        test_skip("this kernel has no huge page to give");
    mc_heap_huge_pages(MC_HUGE_ALWAYS);
    unsigned char *object = mc_alloc(100);
    *object = 1;
    REQUIRE_EQUAL(resident((uint64_t)object & -(uint64_t)MC_HUGE_PAGE, MC_HUGE_PAGE), SMALL_PAGES);
    unsigned char *mapped = mc_alloc(2 * MC_LARGE_MAX);
    *mapped = 1;
    REQUIRE_EQUAL(resident((uint64_t)mapped, MC_HUGE_PAGE), SMALL_PAGES);
}

/* Smaller arenas, which may still have them. */
static void huge_short_of_address_space(void)
{
    mc_heap_huge_pages(MC_HUGE_ALWAYS);
    os_faults.bytes_limit = 20 << 20;
    struct mc_run run = taken(1, MC_SLICE);
    const struct mc_arena *arena = arena_with(run.base);
    REQUIRE(arena->slice_count * MC_SLICE < os_faults.bytes_limit);
    REQUIRE(arena->huge && arena->base % MC_HUGE_PAGE == 0);
    mc_arena_check();
}

/* -- what goes back -------------------------------------------------------------------------- */

static void huge_go_whole(void)
{
    mc_heap_huge_pages(MC_HUGE_ALWAYS);
    struct mc_run page = taken(PAGE, MC_HUGE_PAGE), half = taken(HALF, MC_HUGE_PAGE);
    struct mc_run other = taken(HALF, MC_SLICE);
    REQUIRE_EQUAL(other.base, half.base + HALF * MC_SLICE);
    mc_arena_give(page.base, PAGE);
    mc_arena_give(half.base, HALF);
    REQUIRE_EQUAL(mc_arena_purge(0), 0);
    REQUIRE(mc_arena_purgeable());
    REQUIRE_EQUAL(mc_arena_purge(0), MC_HUGE_PAGE);
    REQUIRE_EQUAL(resident(page.base, MC_HUGE_PAGE), 0);
    mc_arena_purge(0);
    REQUIRE_EQUAL(resident(half.base, MC_HUGE_PAGE), SMALL_PAGES);
    mc_arena_give(other.base, HALF);
    mc_arena_purge(0);
    mc_arena_purge(0);
    REQUIRE_EQUAL(resident(half.base, MC_HUGE_PAGE), 0);
    REQUIRE(arena_with(half.base)->huge);
    REQUIRE_EQUAL(arena_with(half.base)->populated, 0);
    mc_arena_check();
}

/* One of which something was used since the tick before is none that was free. */
static void huge_used_meanwhile(void)
{
    mc_heap_huge_pages(MC_HUGE_ALWAYS);
    struct mc_run page = taken(PAGE, MC_HUGE_PAGE);
    mc_arena_give(page.base, PAGE);
    mc_arena_purge(0);
    REQUIRE_EQUAL(taken(1, MC_HUGE_PAGE).base, page.base);
    mc_arena_give(page.base, 1);
    REQUIRE_EQUAL(mc_arena_purge(0), 0);
    REQUIRE_EQUAL(resident(page.base, MC_HUGE_PAGE), SMALL_PAGES);
    REQUIRE_EQUAL(mc_arena_purge(0), MC_HUGE_PAGE);
    REQUIRE_EQUAL(resident(page.base, MC_HUGE_PAGE), 0);
}

/* Who asks for it gets back what is free, in parts as well. */
static void huge_trimmed(void)
{
    mc_heap_huge_pages(MC_HUGE_ALWAYS);
    struct mc_run half = taken(HALF, MC_HUGE_PAGE), other = taken(HALF, MC_SLICE);
    REQUIRE_EQUAL(mc_arena_give_pages(half.base, HALF), 0);
    REQUIRE_EQUAL(resident(half.base, MC_HUGE_PAGE), SMALL_PAGES);
    REQUIRE_EQUAL(mc_arena_purge(1), HALF * MC_SLICE);
    REQUIRE_EQUAL(resident(half.base, HALF * MC_SLICE), 0);
    REQUIRE_EQUAL(resident(other.base, HALF * MC_SLICE), SMALL_PAGES / 2);
    REQUIRE(arena_with(half.base)->huge);
    mc_arena_check();
}

enum { SLOT = 8 << 10, SLOTS = 256 };
static unsigned char *slots[SLOTS];

static void make_slots(void)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        REQUIRE((slots[i] = mc_alloc(SLOT)));
        memset(slots[i], 1, SLOT);
    }
}

/* Frees three of four, so that spans stay. */
static void free_most(void)
{
    for (unsigned i = 0; i < SLOTS; i++)
        if (i % 4) mc_free(slots[i]);
}

static void let_ticks_pass(void)
{
    for (unsigned i = 0; i < 8; i++) {
        os_faults.ms_ahead += 2 * MC_TICK_MS;
        mc_free(mc_alloc(2 * MC_LARGE_KEPT_MAX)); /* those look at the clock */
    }
}

static uint64_t resident_slots(void)
{
    uint64_t pages = 0;
    for (unsigned i = 0; i < SLOTS; i++)
        pages += resident((uint64_t)slots[i] & -(uint64_t)4096, SLOT);
    return pages / (SLOT / 4096);
}

static void huge_free_slots_stay(void)
{
    mc_heap_huge_pages(MC_HUGE_ALWAYS);
    make_slots();
    free_most();
    let_ticks_pass();
    REQUIRE_EQUAL(resident_slots(), SLOTS);
    mc_heap_trim();
    REQUIRE(resident_slots() < SLOTS / 2);
    mc_heap_check();
}

/* So the ticks were some. */
static void huge_dense_free_slots_go(void)
{
    make_slots();
    free_most();
    let_ticks_pass();
    REQUIRE(resident_slots() < SLOTS / 2);
    mc_heap_check();
}

/* Memory that was used is zeroed where it is: dropping it would take huge pages apart. */
static void huge_zeroed_in_place(void)
{
    enum { SIZE = 4 << 20 };
    mc_heap_huge_pages(MC_HUGE_ALWAYS);
    unsigned char *object = mc_alloc(SIZE);
    memset(object, 7, SIZE);
    mc_free(object);
    unsigned char *again = mc_alloc_slow(SIZE, 1);
    REQUIRE(again == object);
    REQUIRE_EQUAL(resident((uint64_t)again, SIZE), SIZE / 4096);
    for (unsigned at = 0; at < SIZE; at++)
        REQUIRE(!again[at]);
}

static const struct test_case cases[] = {
    {"huge_always_from_the_first", huge_always_from_the_first, 0},
    {"huge_dense_not_at_first", huge_dense_not_at_first, 0},
    {"huge_never", huge_never, 0},
    {"huge_mappings", huge_mappings, 0},
    {"huge_pages_come", huge_pages_come, 0},
    {"huge_short_of_address_space", huge_short_of_address_space, 0},
    {"huge_go_whole", huge_go_whole, 0},
    {"huge_used_meanwhile", huge_used_meanwhile, 0},
    {"huge_trimmed", huge_trimmed, 0},
    {"huge_zeroed_in_place", huge_zeroed_in_place, 0},
    {"huge_free_slots_stay", huge_free_slots_stay, 0},
    {"huge_dense_free_slots_go", huge_dense_free_slots_go, 0},
};
TEST_MAIN(cases)
