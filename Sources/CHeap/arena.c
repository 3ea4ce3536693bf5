/* SPDX-License-Identifier: MIT */
/* See arena.h. */
#include "arena.h"

#include <errno.h>

#include "arena_slices.h"
#include "bitmap.h"
#include "check.h"
#include "huge.h"
#include "meta.h"
#include "os.h"
#include "pagemap.h"
#include "root.h"

static uint32_t scarce; /* [shared] 1: the kernel once refused address space */

static uint64_t index_of(const struct mc_arena *arena, uint64_t address)
{
    return (address - mc_load(&arena->base)) / MC_SLICE;
}

/* The arena that holds `base`, which is a slice of one. */
static struct mc_arena *arena_of(uint64_t base)
{
    for (uint64_t i = 0;; i++) {
        struct mc_arena *arena = mc_arena_at(i);
        /* The count first: if it is one of a former arena of this struct, the base is newer, and
         * the caller's slice is not in it. Pairs with fill(). */
        uint64_t slices = mc_load_acquire(&arena->slice_count);
        if (base - mc_load(&arena->base) < slices * MC_SLICE) return arena;
    }
}

/* Makes the arena known. */
static int publish(struct mc_arena *arena)
{
    for (uint64_t i = 0; i < MC_ARENAS_MAX; i++) {
        uint64_t none = 0;
        if (mc_load(&mc_arenas[i]) || !mc_swap_if(&mc_arenas[i], &none, (uint64_t)arena)) continue;
        mc_add(&mc_root()->arena_count, 1);
        return 0;
    }
    return ENOMEM;
}

/* The struct of an unmade arena with so many words, now the caller's; or NULL. Threads that still
 * look at it find all its slices used until it is made again. */
static struct mc_arena *take_unmade(uint64_t words)
{
    for (uint64_t i = 0; i < MC_ARENAS_MAX && mc_arena_at(i); i++) {
        struct mc_arena *arena = mc_arena_at(i);
        uint32_t unmade = 1;
        if (arena->words == words && mc_swap_if(&arena->unmade, &unmade, 0)) return arena;
    }
    return 0;
}

/* What is reserved for an arena of `size` bytes: the kernel aligns to pages only. */
static uint64_t with_alignment(uint64_t size)
{
    return size + mc_huge_alignment(size);
}

/* `usable`: it is committed as a whole. */
static int fill(struct mc_arena *arena, void *start, uint64_t slices, int fresh, int usable)
{
    uint64_t size = slices * MC_SLICE;
    arena->start = (uint64_t)start;
    mc_store(&arena->base, mc_round_up((uint64_t)start, mc_huge_alignment(size)));
    mc_store(&arena->huge, mc_huge_alignment(size) == MC_HUGE_PAGE);
    mc_store(&arena->free_slices, slices);
    mc_store(&arena->hint, 0);
    mc_store(&arena->populated, 0);
    if (fresh) {
        arena->slice_count = slices;
        arena->words = slices / 64;
        arena->bitmaps = (uint64_t)(arena + 1);
        if (usable)
            mc_bits_set(mc_arena_bitmap(arena, MC_ARENA_COMMITTED), 0, slices / MC_COMMIT_SLICES);
        return publish(arena);
    }
    /* `used` last: whoever claims a slice finds all the rest in place. */
    mc_store_release(&arena->slice_count, slices);
    for (unsigned which = MC_ARENA_BITMAPS; which-- > 0;) {
        if (which == MC_ARENA_USED && usable)
            mc_bits_set(mc_arena_bitmap(arena, MC_ARENA_COMMITTED), 0, slices / MC_COMMIT_SLICES);
        mc_bits_clear(mc_arena_bitmap(arena, which), 0, slices);
    }
    return 0;
}

static uint64_t reserved_bytes(void)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < MC_ARENAS_MAX && mc_arena_at(i); i++)
        bytes += mc_load(&mc_arena_at(i)->slice_count) * MC_SLICE;
    return bytes;
}

/* Reserves an arena with room for `bytes` at least; smaller ones when the kernel refuses. */
static int make(uint64_t bytes)
{
    uint64_t least = mc_round_up(bytes, MC_ARENA_SIZE_MIN);
    uint64_t size = mc_round_up(reserved_bytes(), MC_ARENA_SIZE_MIN);
    if (size < MC_ARENA_SIZE) size = MC_ARENA_SIZE;
    if (size > MC_ARENA_SIZE_MAX) size = MC_ARENA_SIZE_MAX;
    if (size < least) size = least;
    size = mc_huge_arena_size(size);
    void *start;
    int usable;
    while (mc_os_reserve(with_alignment(size), &start, &usable)) {
        mc_store(&scarce, 1);
        if (size / 2 < least) return ENOMEM;
        size = size / 2 & ~(MC_ARENA_SIZE_MIN - 1);
    }
    uint64_t slices = size / MC_SLICE;
    struct mc_arena *arena = take_unmade(slices / 64);
    int fresh = !arena;
    mc_huge_arena_made(start, size, bytes);
    if (fresh) arena = mc_meta_alloc(sizeof(*arena) + MC_ARENA_BITMAPS * (slices / 64) * 8);
    if (arena && !fill(arena, start, slices, fresh, usable)) return 0;
    mc_os_release(start, with_alignment(size));
    return ENOMEM;
}

/* Gives the address space of wholly free arenas back. Whoever has claimed every slice of one is
 * alone with it; with no slices left, nobody finds anything in it any more. */
void mc_arena_release_idle(void)
{
    for (uint64_t i = 0; i < MC_ARENAS_MAX && mc_arena_at(i); i++) {
        struct mc_arena *arena = mc_arena_at(i);
        uint64_t slices = mc_load(&arena->slice_count);
        if (!slices || !mc_bits_claim(mc_arena_bitmap(arena, MC_ARENA_USED), 0, slices)) continue;
        uint64_t start = arena->start;
        mc_store(&arena->free_slices, 0);
        mc_store_release(&arena->slice_count, 0);
        if (!mc_os_release((void *)start, with_alignment(slices * MC_SLICE))) {
            mc_store(&arena->populated, 0);
            mc_store_release(&arena->unmade, 1); /* pairs with take_unmade */
            continue;
        }
        mc_store(&arena->free_slices, slices); /* it stays, as it was */
        mc_store_release(&arena->slice_count, slices);
        mc_bits_clear(mc_arena_bitmap(arena, MC_ARENA_USED), 0, slices);
    }
}

enum { RUN = MC_COMMIT_SLICES * MC_SLICE };
_Static_assert(MC_HUGE_ARENA % MC_HUGE_PAGE == 0 && MC_HUGE_PAGE % RUN == 0,
               "runs fill huge pages");

/* How many are committed at a time, once the first of them is asked for. */
static uint64_t runs_at_once(const struct mc_arena *arena)
{
    enum { HUGE = MC_HUGE_PAGE / RUN };
    int huge = mc_load(&arena->huge) != 0;
    if (huge && !mc_huge_is(MC_HUGE_ALWAYS))
        return HUGE; /* it is asked of each whether it is to be one */
    uint64_t runs = mc_load(&arena->slice_count) / MC_COMMIT_SLICES / MC_COMMIT_PIECES;
    if (runs > MC_COMMIT_MOST / RUN) runs = MC_COMMIT_MOST / RUN;
    if (huge) return mc_round_up(runs, HUGE);
    return runs ? runs : 1;
}

/* Some that begin with `run`. */
static int commit_runs(struct mc_arena *arena, uint64_t run, uint64_t runs)
{
    void *start = (void *)(mc_load(&arena->base) + run * RUN);
    int error = mc_os_commit(start, runs * RUN);
    if (error) return error;
    if (mc_load(&arena->huge)) mc_huge_committed(start, runs * RUN);
    mc_bits_set(mc_arena_bitmap(arena, MC_ARENA_COMMITTED), run, runs);
    return 0;
}

/* Makes the slices accessible. A run that two threads commit at once is committed twice, which is
 * harmless: it takes nothing away from pages that are in use. */
static int commit(struct mc_arena *arena, uint64_t first, uint64_t slices)
{
    const uint64_t *committed = mc_arena_bitmap(arena, MC_ARENA_COMMITTED);
    uint64_t all = mc_load(&arena->slice_count) / MC_COMMIT_SLICES, runs = runs_at_once(arena);
    for (uint64_t i = first / MC_COMMIT_SLICES; i <= (first + slices - 1) / MC_COMMIT_SLICES; i++) {
        if (mc_load_acquire(&committed[i / 64]) >> i % 64 & 1) continue;
        uint64_t piece = i / runs * runs;
        int error = commit_runs(arena, piece, all - piece < runs ? all - piece : runs);
        /* Where memory is promised to the last page, there may be enough for what is needed. */
        if (error) error = commit_runs(arena, i, 1);
        if (error) return error;
    }
    return 0;
}

void mc_arena_commit_all(void)
{
    for (uint64_t i = 0; i < MC_ARENAS_MAX && mc_arena_at(i); i++) {
        struct mc_arena *arena = mc_arena_at(i);
        uint64_t slices = mc_load_acquire(&arena->slice_count);
        const uint64_t *committed = mc_arena_bitmap(arena, MC_ARENA_COMMITTED);
        for (uint64_t run = 0; run < slices / MC_COMMIT_SLICES; run++) {
            uint64_t first = run * MC_COMMIT_SLICES;
            /* Whoever has a slice of it commits it. Claimed, so that the arena stays meanwhile. */
            if (mc_load_acquire(&committed[run / 64]) >> run % 64 & 1 ||
                !mc_bits_claim(mc_arena_bitmap(arena, MC_ARENA_USED), first, MC_COMMIT_SLICES))
                continue;
            commit(arena, first, MC_COMMIT_SLICES);
            mc_bits_clear(mc_arena_bitmap(arena, MC_ARENA_USED), first, MC_COMMIT_SLICES);
        }
    }
}

/* Takes slices whose bits look free; `hint` and `free_slices` follow. */
static int claim(struct mc_arena *arena, uint64_t first, uint64_t slices, struct mc_run *run)
{
    uint64_t *used = mc_arena_bitmap(arena, MC_ARENA_USED);
    if (!mc_bits_claim(used, first, slices)) return EAGAIN;
    if (commit(arena, first, slices)) {
        mc_bits_clear(used, first, slices);
        return ENOMEM;
    }
    mc_sub(&arena->free_slices, slices);
    mc_bits_clear(mc_arena_bitmap(arena, MC_ARENA_AGING), first, slices);
    run->base = mc_load(&arena->base) + first * MC_SLICE;
    run->slices = slices;
    uint64_t populated = mc_bits_set(mc_arena_bitmap(arena, MC_ARENA_DIRTY), first, slices);
    mc_sub(&arena->populated, (uint32_t)populated);
    run->fresh = slices - populated;
    return 0;
}

/* Slice numbers congruent to it modulo `step` are multiples of so many slices. */
static uint64_t phase_of(const struct mc_arena *arena, uint64_t step)
{
    return (step - mc_load(&arena->base) / MC_SLICE % step) % step;
}

/* ENOSPC if there is no room, ENOMEM if the kernel refuses to make it accessible. */
static int take_from(struct mc_arena *arena, uint64_t slices, uint64_t align, struct mc_run *run)
{
    uint64_t *used = mc_arena_bitmap(arena, MC_ARENA_USED);
    uint64_t step = align / MC_SLICE, phase = phase_of(arena, step);
    uint64_t from = mc_load(&arena->hint) * 64;
    for (int wrapped = !from;;) {
        uint64_t first =
            mc_bits_find(used, mc_load(&arena->slice_count), from, slices, step, phase);
        if (first == MC_BITS_NONE && !wrapped) {
            wrapped = 1; /* racing stores may have left the hint too high */
            from = 0;
            continue;
        }
        if (first == MC_BITS_NONE) return ENOSPC;
        int error = claim(arena, first, slices, run);
        if (!error && run->base & (align - 1)) { /* made again elsewhere since `phase` */
            mc_arena_give(run->base, slices);
            return ENOSPC;
        }
        if (error != EAGAIN) {
            if (!error && slices == 1 && step == 1) mc_store(&arena->hint, (uint32_t)(first / 64));
            return error;
        }
        from = first;
    }
}

/* From any arena there is. As take_from(); ENOMEM if any of them could not be made accessible. */
static int take_from_any(uint64_t slices, uint64_t align, struct mc_run *run)
{
    int error = ENOSPC;
    for (uint64_t i = 0; i < MC_ARENAS_MAX && mc_arena_at(i); i++) {
        struct mc_arena *arena = mc_arena_at(i);
        if (mc_load(&arena->free_slices) < slices) continue;
        int failed = take_from(arena, slices, align, run);
        if (!failed) return 0;
        if (failed == ENOMEM) error = ENOMEM;
    }
    return error;
}

static int take(uint64_t slices, uint64_t align, struct mc_run *run)
{
    for (int made = 0;; made = 1) {
        int error = take_from_any(slices, align, run);
        if (!error) return 0;
        /* Others may have taken what was made, which is no shortage: they go on. */
        if ((made && error == ENOMEM) || make(slices * MC_SLICE + align - MC_SLICE)) return ENOMEM;
    }
}

int mc_arena_take(uint64_t slices, uint64_t align, struct mc_run *run)
{
    int error = take(slices, align, run);
    mc_add(error ? &mc_root()->slices_refused : &mc_root()->slices_taken, 1);
    return error;
}

/* Slices of one arena that are populated. */
static int take_populated_from(struct mc_arena *arena, uint64_t slices, uint64_t align,
                               struct mc_run *run)
{
    uint64_t step = align / MC_SLICE;
    uint64_t first = mc_bits_find_in(
        mc_arena_bitmap(arena, MC_ARENA_USED), mc_arena_bitmap(arena, MC_ARENA_DIRTY),
        mc_load(&arena->slice_count), 0, slices, step, phase_of(arena, step));
    if (first == MC_BITS_NONE || claim(arena, first, slices, run)) return ENOMEM;
    if (likely(!(run->base & (align - 1)))) return 0;
    mc_arena_give(run->base, slices); /* made again elsewhere, as in take_from() */
    return ENOMEM;
}

static __attribute__((noinline)) int take_populated(uint64_t slices, uint64_t align,
                                                    struct mc_run *run)
{
    for (uint64_t i = 0; i < MC_ARENAS_MAX && mc_arena_at(i); i++)
        if (mc_load(&mc_arena_at(i)->populated) >= slices &&
            !take_populated_from(mc_arena_at(i), slices, align, run))
            return 0;
    return ENOMEM;
}

int mc_arena_take_populated(uint64_t slices, uint64_t align, struct mc_run *run)
{
    if (slices <= MC_SPAN_SLICES_MAX || !mc_load(&mc_arenas_purgeable) ||
        take_populated(slices, align, run)) {
        int error = mc_arena_take(slices, align, run);
        if (!error) mc_arena_instead(run->fresh);
        return error;
    }
    mc_add(&mc_root()->slices_taken, 1);
    return 0;
}

int mc_arena_take_at(uint64_t base, uint64_t slices)
{
    struct mc_arena *arena = arena_of(base - MC_SLICE);
    uint64_t first = index_of(arena, base);
    struct mc_run run;
    if (first + slices > mc_load(&arena->slice_count) || claim(arena, first, slices, &run))
        return ENOMEM;
    mc_arena_instead(run.fresh);
    return 0;
}

/* All of them are dirty, or none is. */
static void give(struct mc_arena *arena, uint64_t first, uint64_t slices, uint64_t dirty)
{
    mc_add(&arena->free_slices, slices);
    mc_add(&arena->populated, (uint32_t)dirty);
    mc_bits_clear(mc_arena_bitmap(arena, MC_ARENA_USED), first, slices);
    /* The lowest word that may have room. */
    if (first / 64 < mc_load(&arena->hint)) mc_store(&arena->hint, (uint32_t)(first / 64));
    mc_store(&mc_arenas_purgeable, 1);
    /* Others than us may need it, for a thread's stack, say. */
    if (unlikely(mc_load(&scarce)) && mc_load(&arena->free_slices) == mc_load(&arena->slice_count))
        mc_arena_release_idle();
}

void mc_arena_give(uint64_t base, uint64_t slices)
{
    struct mc_arena *arena = arena_of(base);
    give(arena, index_of(arena, base), slices, slices);
}

__attribute__((noinline)) uint64_t mc_arena_give_pages(uint64_t base, uint64_t slices)
{
    struct mc_arena *arena = arena_of(base);
    uint64_t first = index_of(arena, base), dirty = slices;
    if (mc_arena_has_whole(arena)) {
        give(arena, first, slices, slices);
        return 0;
    }
    uint64_t purged = mc_os_purge((void *)base, slices * MC_SLICE) ? 0 : slices * MC_SLICE;
    /* Of a huge page others may be populated that nobody ever had: they go by what is dirty of it, and all
     * of it counts then. */
    if (purged && !mc_load(&arena->huge)) {
        mc_bits_clear(mc_arena_bitmap(arena, MC_ARENA_DIRTY), first, slices);
        mc_add(&mc_root()->purged_bytes, purged);
        dirty = 0;
    }
    give(arena, first, slices, dirty);
    return purged;
}

void mc_arena_check(void)
{
    for (uint64_t i = 0; i < MC_ARENAS_MAX && mc_arena_at(i); i++) {
        struct mc_arena *arena = mc_arena_at(i);
        const uint64_t *committed = mc_arena_bitmap(arena, MC_ARENA_COMMITTED);
        mc_assert(arena->slice_count % 64 == 0 && arena->base % MC_SLICE == 0);
        mc_assert(!arena->huge || (arena->slice_count * MC_SLICE % MC_HUGE_PAGE == 0 &&
                                   arena->base % MC_HUGE_PAGE == 0));
        uint64_t populated = 0;
        for (uint64_t slice = 0; slice < arena->slice_count; slice++) {
            uint64_t bit = 1ull << slice % 64;
            uint64_t used = mc_arena_bitmap(arena, MC_ARENA_USED)[slice / 64] & bit;
            uint64_t dirty = mc_arena_bitmap(arena, MC_ARENA_DIRTY)[slice / 64] & bit;
            uint64_t run = slice / MC_COMMIT_SLICES;
            populated += dirty && !used;
            mc_assert(!(used | dirty) || committed[run / 64] >> run % 64 & 1);
            if (used || dirty || !(committed[run / 64] >> run % 64 & 1)) continue;
            const uint64_t *words = (const uint64_t *)(arena->base + slice * MC_SLICE);
            for (unsigned word = 0; word < MC_SLICE / 8; word += MC_PAGE / 8)
                mc_assert(words[word] == 0);
        }
        mc_assert(arena->populated >= populated);
    }
}
