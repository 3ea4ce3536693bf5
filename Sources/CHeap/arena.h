/* SPDX-License-Identifier: MIT */
/* Arenas: address space, reserved in large pieces and cut into slices.
 *
 * Made when no other has room; unmade only when address space is short and one is
 * wholly free. Which slices are in use is a bitmap; a run of slices
 * is taken by setting its bits, a word at a time, and undone if another thread was faster. There
 * are no locks, so neither a fork nor a signal nor a thread that dies can leave one behind; what a
 * forked child can lose is a run that another thread was just taking.
 *
 * Pages: a run is made accessible (committed) when first taken and stays so. Freed slices stay
 * populated until they have been free for a whole tick, or others are populated for a large object
 * instead; then they are purged, and read as zero. Where huge pages are wanted always (huge.h), a tick
 * purges those of which nothing was in use since the tick before, each as a whole.
 *
 * Invariants, asserted by mc_arena_check():
 *   1. slices that are neither used nor dirty read as zero
 *   2. used and dirty bits are only ever set in committed runs
 *   3. an arena that huge pages may back consists of whole ones
 *   4. `populated` is how many slices are free and dirty; in a forked child more, if another thread of
 *      its parent was just changing that */
#ifndef MC_ARENA_H
#define MC_ARENA_H

#include "limits.h"

struct mc_run {
    uint64_t base;
    uint64_t slices;
    uint64_t fresh; /* how many read as zero, and have no pages */
};

/* Takes `slices` slices at a multiple of `align` (a power of two, >= MC_SLICE). Returns 0, or
 * ENOMEM and leaves *run alone. */
int mc_arena_take(uint64_t slices, uint64_t align, struct mc_run *run);

/* The same for large objects: slices that are populated if there are. For those that are not, as many that a large
 * object left go, so that the heap has no more pages than if it had given them back at once. */
int mc_arena_take_populated(uint64_t slices, uint64_t align, struct mc_run *run);

/* Takes the slices from `base` on, which follow a run of the caller's. Returns 0 or ENOMEM. */
int mc_arena_take_at(uint64_t base, uint64_t slices);

/* Slices of one or several adjoining runs; their contents are lost. */
void mc_arena_give(uint64_t base, uint64_t slices);

/* The same, and their pages go back at once, unless huge pages go as a whole or not at all. Returns bytes. */
uint64_t mc_arena_give_pages(uint64_t base, uint64_t slices);

/* For whoever gave many: no more stay populated than MC_POPULATED_MAX, but for short runs. */
void mc_arena_bound_populated(void);

/* Commits all that is reserved, for when that is not possible later. What can't be stays as it is. */
void mc_arena_commit_all(void);

/* Gives wholly free arenas back; for when address space is short. */
void mc_arena_release_idle(void);

/* Purges what has been free since the call before; with `all`, everything free. Returns bytes. */
uint64_t mc_arena_purge(int all);

/* Gives back the pages of the page map that belong to free slices only. */
void mc_arena_trim_map(void);

/* 1 if free slices wait to be purged. */
int mc_arena_purgeable(void);

void mc_arena_check(void);

#endif
