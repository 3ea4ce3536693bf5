/* SPDX-License-Identifier: MIT */
/* The page map: address -> span, for any address, also one that was never ours.
 *
 *     root[address >> 30] -> leaf[address >> 14 & 0xffff] -> span or NULL
 *
 * A class span is found by every address in it; a large or huge one by its first slice only, so
 * that a gigabyte costs no more to map than a kilobyte. Leaves are made when first needed and stay.
 * Finding is two loads, from any thread; entries are written by whoever holds the slices. */
#ifndef MC_PAGEMAP_H
#define MC_PAGEMAP_H

#include "limits.h"

extern uint64_t *mc_page_map[MC_ROOT_COUNT]; /* [shared] */

static inline struct mc_span *mc_page_map_find(const void *address)
{
    uint64_t value = (uint64_t)address;
    uint64_t index = value >> MC_LEAF_SHIFT;
    if (unlikely(index >= MC_ROOT_COUNT)) return 0;
    uint64_t *leaf = mc_load_acquire(&mc_page_map[index]); /* pairs with make_leaf's release */
    if (unlikely(!leaf)) return 0;
    return (struct mc_span *)mc_load(&leaf[value >> MC_SLICE_SHIFT & (MC_LEAF_COUNT - 1)]);
}

/* Points `slices` slices from `base` on to `span`; 0 or ENOMEM, then nothing is changed. The
 * caller publishes the span's fields by handing out its slots. */
int mc_page_map_set(uint64_t base, uint64_t slices, struct mc_span *span);

/* Puts a leaf by, so that the next mc_page_map_set() of one slice succeeds wherever it is; for a
 * caller that learns the address too late to fail. Returns 0 or ENOMEM. */
int mc_page_map_prepare(void);

void mc_page_map_clear(uint64_t base, uint64_t slices);

/* The slices whose entries share a page, from a multiple of their size on. */
enum { MC_MAP_PAGE_SLICES = MC_PAGE / sizeof(uint64_t) };

/* Gives the page of entries of these slices back; they are 0 and stay so. The caller holds the slices. */
void mc_page_map_purge(uint64_t base);

#endif
