/* SPDX-License-Identifier: MIT */
/* See arena.h: what gives pages of free slices back. */
#include "arena.h"
#include "arena_slices.h"
#include "bitmap.h"
#include "os.h"
#include "pagemap.h"

uint64_t mc_arenas_purgeable;

int mc_arena_purgeable(void)
{
    return mc_load(&mc_arenas_purgeable) != 0;
}

/* Purges the free slices of one bitmap word that are set in `which`: takes them as any other taker
 * does, so that nobody gets a slice while its pages go. */
static uint64_t purge_word(struct mc_arena *arena, uint64_t word, uint64_t which)
{
    uint64_t *used = mc_arena_bitmap(arena, MC_ARENA_USED) + word;
    uint64_t held = which & ~__atomic_fetch_or(used, which, __ATOMIC_ACQUIRE);
    uint64_t purged = 0;
    for (uint64_t rest = held; rest;) {
        unsigned first = (unsigned)__builtin_ctzll(rest);
        uint64_t behind = ~(rest >> first);
        unsigned count = behind ? (unsigned)__builtin_ctzll(behind) : 64;
        uint64_t bits = count == 64 ? ~0ull : ((1ull << count) - 1) << first;
        uint64_t start = mc_load(&arena->base) + (word * 64 + first) * MC_SLICE;
        if (!mc_os_purge((void *)start, (uint64_t)count * MC_SLICE)) {
            uint64_t *dirty = mc_arena_bitmap(arena, MC_ARENA_DIRTY) + word;
            uint64_t were = bits & __atomic_fetch_and(dirty, ~bits, __ATOMIC_RELAXED);
            mc_sub(&arena->populated, mc_bits_in(were));
            purged += (uint64_t)count * MC_SLICE;
        }
        rest &= ~bits;
    }
    __atomic_fetch_and(used, ~held, __ATOMIC_RELEASE);
    return purged;
}

/* Slices of one bitmap word that may be populated: those that are dirty, and all of a huge page of
 * which one is. */
static uint64_t touched(const struct mc_arena *arena, uint64_t word)
{
    const uint64_t *dirty = mc_arena_bitmap(arena, MC_ARENA_DIRTY);
    if (!mc_load(&arena->huge)) return mc_load(&dirty[word]);
    return mc_load(&dirty[word]) | mc_load(&dirty[word ^ 1]) ? ~0ull : 0;
}
_Static_assert(MC_HUGE_PAGE == 2 * 64 * MC_SLICE, "a huge page is two words of slices");

/* From now on only small pages back what is touched anew, and the kernel does not put together what
 * was purged. What a huge page populated and nobody ever had is dirty from now on, or it would stay. */
static void split(struct mc_arena *arena)
{
    uint64_t slices = mc_load(&arena->slice_count);
    for (uint64_t word = 0; word < slices / 64; word++) {
        uint64_t dirty = touched(arena, word), *words = mc_arena_bitmap(arena, MC_ARENA_DIRTY);
        if (!dirty) continue;
        /* Whoever just claims one of them finds it dirty, too. Never too few, for a child that is forked here. */
        mc_add(&arena->populated, mc_bits_in(dirty));
        uint64_t before = __atomic_fetch_or(&words[word], dirty, __ATOMIC_RELAXED);
        mc_sub(&arena->populated, mc_bits_in(dirty & before));
    }
    mc_store(&arena->huge, 0);
    mc_os_huge_pages((void *)mc_load(&arena->base), slices * MC_SLICE, 0);
}

/* Free slices of an arena: all, or those that were so at the tick before; others are *waiting. Returns bytes. */
static uint64_t purge_slices(struct mc_arena *arena, int all, int *waiting)
{
    uint64_t words = mc_load(&arena->slice_count) / 64, purged = 0, second = 0;
    for (uint64_t word = 0; word < words; word++) {
        uint64_t *aging = mc_arena_bitmap(arena, MC_ARENA_AGING) + word;
        /* Both words of a huge page are looked at before the first is purged. */
        uint64_t dirty = mc_load(&arena->huge) && word % 2 ? second : touched(arena, word);
        second = dirty;
        dirty &= ~mc_load(mc_arena_bitmap(arena, MC_ARENA_USED) + word);
        uint64_t old = all ? dirty : dirty & mc_load(aging);
        if (old) purged += purge_word(arena, word, old);
        mc_store(aging, dirty & ~old);
        *waiting |= (dirty & ~old) != 0;
    }
    return purged;
}

/* The run that the caller holds, and of an arena with huge pages what is free of the pages it begins and ends in:
 * it may be populated as well. Returns bytes. */
static uint64_t purge_held(struct mc_arena *arena, uint64_t first, uint64_t end)
{
    enum { PAGE = MC_HUGE_PAGE / MC_SLICE };
    uint64_t *used = mc_arena_bitmap(arena, MC_ARENA_USED),
             *dirty = mc_arena_bitmap(arena, MC_ARENA_DIRTY);
    uint64_t before = first % PAGE, behind = (PAGE - end % PAGE) % PAGE, purged = 0;
    if (mc_load(&arena->huge) && before && mc_bits_claim(used, first - before, before))
        first -= before;
    if (mc_load(&arena->huge) && behind && mc_bits_claim(used, end, behind)) end += behind;
    if (!mc_os_purge((void *)(mc_load(&arena->base) + first * MC_SLICE),
                     (end - first) * MC_SLICE)) {
        mc_sub(&arena->populated, (uint32_t)mc_bits_clear_set(dirty, first, end - first));
        purged = (end - first) * MC_SLICE;
    }
    mc_bits_clear(used, first, end - first);
    return purged;
}

/* Huge pages of which every slice has been free since the tick before; others are *waiting. Returns bytes. */
static __attribute__((noinline)) uint64_t purge_whole(struct mc_arena *arena, int *waiting)
{
    enum { PAGE = MC_HUGE_PAGE / MC_SLICE };
    uint64_t *used = mc_arena_bitmap(arena, MC_ARENA_USED),
             *aging = mc_arena_bitmap(arena, MC_ARENA_AGING);
    uint64_t words = mc_load(&arena->slice_count) / 64, purged = 0;
    for (uint64_t word = 0; word < words; word += PAGE / 64) {
        if (!touched(arena, word) || mc_load(&used[word]) | mc_load(&used[word + 1])) continue;
        /* Whoever has one of them meanwhile clears its bit. */
        int old = !~(mc_load(&aging[word]) & mc_load(&aging[word + 1]));
        if (old && mc_bits_claim(used, word * 64, PAGE)) {
            purged += purge_held(arena, word * 64, word * 64 + PAGE);
            mc_store(&aging[word], 0);
            mc_store(&aging[word + 1], 0);
        } else {
            mc_store(&aging[word], ~0ull);
            mc_store(&aging[word + 1], ~0ull);
            *waiting = 1;
        }
    }
    return purged;
}

uint64_t mc_arena_purge(int all)
{
    uint64_t purged = 0;
    int waiting = 0;
    mc_store(&mc_arenas_purgeable, 0);
    for (uint64_t i = 0; i < MC_ARENAS_MAX && mc_arena_at(i); i++) {
        struct mc_arena *arena = mc_arena_at(i);
        int whole = mc_arena_has_whole(arena);
        uint64_t size = mc_load(&arena->slice_count) * MC_SLICE;
        uint64_t gone =
            whole && !all ? purge_whole(arena, &waiting) : purge_slices(arena, all, &waiting);
        if (!whole && mc_load(&arena->huge) && gone * MC_HUGE_PURGED > size) split(arena);
        purged += gone;
    }
    if (waiting) mc_store(&mc_arenas_purgeable, 1);
    mc_add(&mc_root()->purged_bytes, purged);
    return purged;
}

/* Purges free slices in runs that are longer than any of a span, until so many are gone. Returns bytes. */
static uint64_t purge_long_runs(struct mc_arena *arena, uint64_t slices)
{
    uint64_t *used = mc_arena_bitmap(arena, MC_ARENA_USED),
             *dirty = mc_arena_bitmap(arena, MC_ARENA_DIRTY);
    uint64_t count = mc_load(&arena->slice_count), from = 0, purged = 0;
    while (purged < slices * MC_SLICE) {
        enum { LEAST = MC_SPAN_SLICES_MAX + 1 };
        uint64_t first = mc_bits_find_in(used, dirty, count, from, LEAST, 1, 0);
        if (first == MC_BITS_NONE) break;
        uint64_t run = mc_bits_run_in(used, dirty, count, first);
        uint64_t rest = slices - purged / MC_SLICE;
        if (rest < LEAST) rest = LEAST;
        if (run > rest) run = rest;
        from = first + run;
        if (!mc_bits_claim(used, first, run)) continue;
        uint64_t gone = purge_held(arena, first, from);
        if (!gone) break; /* pages that are locked: the others are, too */
        purged += gone;
    }
    return purged;
}

void mc_arena_purge_slices(uint64_t slices)
{
    uint64_t purged = 0;
    for (uint64_t i = 0; i < MC_ARENAS_MAX && mc_arena_at(i) && purged < slices * MC_SLICE; i++)
        if (mc_load(&mc_arena_at(i)->populated) > MC_SPAN_SLICES_MAX)
            purged += purge_long_runs(mc_arena_at(i), slices - purged / MC_SLICE);
    mc_add(&mc_root()->purged_bytes, purged);
}

__attribute__((noinline)) void mc_arena_bound_populated(void)
{
    uint64_t slices = 0;
    for (uint64_t i = 0; i < MC_ARENAS_MAX && mc_arena_at(i); i++)
        slices += mc_load(&mc_arena_at(i)->populated);
    if (slices > MC_POPULATED_MAX / MC_SLICE)
        mc_arena_purge_slices(slices - MC_POPULATED_MAX / MC_SLICE);
}

void mc_arena_trim_map(void)
{
    enum { COUNT = MC_MAP_PAGE_SLICES };
    for (uint64_t i = 0; i < MC_ARENAS_MAX && mc_arena_at(i); i++) {
        struct mc_arena *arena = mc_arena_at(i);
        uint64_t slices = mc_load_acquire(&arena->slice_count), base = mc_load(&arena->base);
        uint64_t *used = mc_arena_bitmap(arena, MC_ARENA_USED);
        uint64_t first = (COUNT - base / MC_SLICE % COUNT) % COUNT;
        for (; first + COUNT <= slices; first += COUNT) {
            if (mc_bits_find(used, first + COUNT, first, COUNT, 1, 0) != first ||
                !mc_bits_claim(used, first, COUNT))
                continue;
            /* Unless it was made again elsewhere before the claim. */
            if (mc_load(&arena->base) == base) mc_page_map_purge(base + first * MC_SLICE);
            mc_bits_clear(used, first, COUNT);
        }
    }
}
