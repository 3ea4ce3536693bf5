/* SPDX-License-Identifier: MIT */
/* The heap root: where everything begins, for the heap and for whoever reads it from outside.
 * One exported symbol; its name and layout are the ABI of memctl_heap.h. */
#ifndef MC_ROOT_H
#define MC_ROOT_H

#include "memctl_heap.h"

extern struct mc_heap_root memctl_heap_root;

/* Addresses of struct mc_arena and span pools; entries below the root's counts are [const]. */
extern uint64_t mc_arenas[MC_ARENAS_MAX];
extern struct mc_heap_pool mc_span_pools[MC_SPAN_POOLS_MAX];

static inline struct mc_heap_root *mc_root(void)
{
    return &memctl_heap_root;
}

#endif
