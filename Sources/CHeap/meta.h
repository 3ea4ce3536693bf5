/* SPDX-License-Identifier: MIT */
/* Metadata: memory for the heap's own structures, apart from the program's.
 *
 * Bumped out of chunks from the kernel and never given back; what is freed waits on a stack of its
 * kind (struct mc_pool) for the next taker. Zero when first given out. No locks: a fork at any
 * instant leaves a child that works, short of at most one item for each other thread. */
#ifndef MC_META_H
#define MC_META_H

#include "limits.h"

/* `size` bytes, aligned to a cache line, zero; NULL when the kernel has no more. */
void *mc_meta_alloc(size_t size);

/* Whole pages from the kernel, counted and listed as metadata, and back: whatever the heap maps for
 * itself. So an outside reader can tell it from the program's memory. NULL when there are none. */
void *mc_meta_map(size_t size);
void mc_meta_unmap(void *start, size_t size);

/* Items of one size. A Treiber stack: `top` is address | changes << 48, and as every take changes
 * the upper bits, a top that left and came back is noticed (no ABA). Items are never unmapped, so
 * reading the `next` of one that was just taken is harmless. */
struct mc_pool {
    uint64_t top; /* [shared] */
};

/* The item's first word is overwritten. */
void mc_pool_give(struct mc_pool *pool, void *item);

/* Returns NULL when the pool is empty. The first word is 0. */
void *mc_pool_take(struct mc_pool *pool);

/* Takes all there are: a list by their first words. */
void *mc_pool_take_all(struct mc_pool *pool);

/* What is listed is counted. Only while no other thread is in here. */
void mc_meta_check(void);

#endif
