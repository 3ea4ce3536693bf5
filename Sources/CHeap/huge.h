/* SPDX-License-Identifier: MIT */
/* Huge pages: which memory of the program may be backed by pages of 2 MiB. They are touched with fewer
 * faults and take less of the TLB, and bring memory that nobody asked for. Three ways, chosen before the
 * first allocation (root.huge_pages):
 *
 *   dense    what a heap of MC_HUGE_ARENA in use goes on to take, wherever nearly all of what spans hold was
 *            carved; so they bring little. An arena that gives pages back has none any more.
 *   always   all arenas, from the first slice on, and mappings of a huge page or more. Ticks give back whole
 *            ones only, or the kernel would have to split them: time is worth more than memory.
 *   never    none, also where the kernel gives them unasked.
 *
 * All of it is advice to the kernel: it may have no huge page, or none allowed. */
#ifndef MC_HUGE_H
#define MC_HUGE_H

#include "bits.h"
#include "limits.h"
#include "root.h"

static inline int mc_huge_is(enum mc_huge_pages way)
{
    return mc_root()->huge_pages == way;
}

/* Bytes of an arena that is to have `size` at least: whole huge pages if it may have those. */
uint64_t mc_huge_arena_size(uint64_t size);

/* What an arena of `size` bytes is aligned to: MC_HUGE_PAGE if it may have those, else MC_SLICE. */
uint64_t mc_huge_alignment(uint64_t size);

/* Advice for an arena that was just reserved, because of a request of `wanted` bytes. */
void mc_huge_arena_made(void *start, uint64_t size, uint64_t wanted);

/* For what of an arena with huge pages has become accessible. */
void mc_huge_committed(void *start, uint64_t size);

/* The alignment of a mapping of `size` bytes for one object, and advice for it. */
uint64_t mc_huge_mapping_alignment(uint64_t size);
void mc_huge_mapped(void *start, uint64_t size);

#endif
