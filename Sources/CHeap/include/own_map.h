/* SPDX-License-Identifier: MIT */
/* Own map: where a thread's frees look first: its spans by address, as far as it has met them.
 *
 *     spans[address >> 14, modulo their number] -> span of the thread's own, or mc_thread.nothing
 *
 * The page map knows all spans, in two loads that each may find nothing; and whose a span is has to
 * be asked of the span. What is found here is the thread's own, and always something: an entry is the
 * span's address less that of the thread's struct, which begins with `nothing`, a span without slots:
 * memory that was never written leads there. Two slices may share an entry: whether the span is that of the address, the checks tell
 * that a free makes anyway. An entry is written when the page map had to be asked.
 *
 * Only the thread itself touches its map, or whoever seized its struct; a page of it is touched for
 * every 8 MiB of the heap that the thread frees in.
 *
 * Invariant, asserted by mc_own_map_check(): what an entry leads to is a class span that the thread
 * owns, or `nothing`, or one of its proxies, which stand for spans of others (proxy.h). So a span is taken
 * off when it is unmade or adopted. */
#ifndef MC_OWN_MAP_H
#define MC_OWN_MAP_H

#include "bits.h"
#include "memctl_heap.h"

enum { MC_OWN_MAP_COUNT = 32768 }; /* 256 KiB, for 512 MiB */

_Static_assert(!offsetof(struct mc_thread, nothing), "an entry of 0 leads there");

/* A thread's struct, and what nobody else needs to know of. */
struct mc_owner {
    struct mc_thread thread;
    uint64_t alive[5]; /* a mutex: see thread.c */
    uint64_t spans[MC_OWN_MAP_COUNT];
};

static inline uint64_t *mc_own_map_place(struct mc_owner *owner, uint64_t address)
{
    return &owner->spans[address >> MC_SLICE_SHIFT & (MC_OWN_MAP_COUNT - 1)];
}

static inline struct mc_span *mc_own_map_find(struct mc_thread *self, uint64_t address)
{
    return (struct mc_span *)((uint64_t)self + *mc_own_map_place((struct mc_owner *)self, address));
}

/* Requires that the thread owns the span, and that the address is one of it. */
static inline void mc_own_map_set(struct mc_thread *self, uint64_t address, struct mc_span *span)
{
    *mc_own_map_place((struct mc_owner *)self, address) = (uint64_t)span - (uint64_t)self;
}

/* Before the span is unmade or another thread's. */
void mc_own_map_forget(struct mc_thread *thread, const struct mc_span *span);

void mc_own_map_check(struct mc_thread *thread);

#endif
