/* SPDX-License-Identifier: MIT */
/* What arena.c and arena_purge.c share: the arenas that are known, and their bitmaps. */
#ifndef MC_ARENA_SLICES_H
#define MC_ARENA_SLICES_H

#include "bits.h"
#include "huge.h"
#include "limits.h"
#include "memctl_heap.h"
#include "root.h"

/* [shared] 1: something was freed since the last purge */
extern uint64_t mc_arenas_purgeable;

/* By the count at its making: it is 0 in one that was unmade meanwhile. */
static inline uint64_t *mc_arena_bitmap(const struct mc_arena *arena, unsigned which)
{
    return (uint64_t *)arena->bitmaps + which * arena->words;
}

/* The arena of this number, or NULL: there are none from there on. */
static inline struct mc_arena *mc_arena_at(uint64_t number)
{
    return (struct mc_arena *)mc_load_acquire(&mc_arenas[number]); /* pairs with publish */
}

/* 1 if its huge pages go back whole or not at all. */
static inline int mc_arena_has_whole(const struct mc_arena *arena)
{
    return unlikely(mc_huge_is(MC_HUGE_ALWAYS)) && mc_load(&arena->huge);
}

/* Purges so many free slices in runs that are longer than any of a span, and a few more: what large objects left. */
void mc_arena_purge_slices(uint64_t slices);

/* For so many that are about to be populated. */
static inline void mc_arena_instead(uint64_t slices)
{
    if (slices > MC_SPAN_SLICES_MAX && mc_load(&mc_arenas_purgeable)) mc_arena_purge_slices(slices);
}

#endif
