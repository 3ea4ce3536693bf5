/* SPDX-License-Identifier: MIT */
/* Every tunable of the heap, with its reason. The ones that an outside reader must know stand in
 * memctl_heap.h. */
#ifndef MC_LIMITS_H
#define MC_LIMITS_H

#include "bits.h"
#include "memctl_heap.h"

/* No object may be larger than PTRDIFF_MAX: pointer differences would overflow (as in glibc). */
#define MC_REQUEST_MAX ((size_t)PTRDIFF_MAX)

/* calloc of dirty memory of this size and up drops the pages instead of writing zeros: what the
 * program does not touch then costs nothing, as with fresh memory. */
#define MC_ZERO_BY_PURGE (1ull << 20)

/* Up to here a request is slices of an arena; above it has a mapping of its own, which goes back
 * to the kernel when freed and moves by mremap(2) instead of by copying. 8 MiB is small beside the
 * arenas of a process that asks for such. */
#define MC_LARGE_MAX (8ull << 20)

/* A thread keeps MC_LARGE_KEPT freed large spans until the next tick, none larger than this: what
 * that withholds from others is bounded by their product. */
#define MC_LARGE_KEPT_MAX (2ull << 20)

/* What the first arena reserves; each later one as much as all before it together, up to the
 * maximum. So a small process takes little address space (mlockall(2) counts it against
 * RLIMIT_MEMLOCK), and MC_ARENAS_MAX of them are a terabyte. Halved down to the minimum when the
 * kernel refuses (RLIMIT_AS). */
#define MC_ARENA_SIZE     (1ull << 20)
#define MC_ARENA_SIZE_MAX (1ull << 30)
#define MC_ARENA_SIZE_MIN (1ull << 20)

/* Freed slices keep their pages for one to two ticks, since touching fresh pages costs more than
 * all else the heap does; then they go back to the kernel. */
#define MC_TICK_MS 200

/* A span has at least this many slots ... */
#define MC_SPAN_SLOTS_MIN 8
/* ... and as many as fit here, so that the way to a new span is rare for small slots. */
#define MC_SPAN_SIZE_WANTED  (64ull << 10)
#define MC_SPAN_SLOTS_WANTED 64

/* Span structs are made in runs of this many; only touched ones cost memory. */
#define MC_SPAN_POOL_COUNT 2048

/* Page map: one leaf maps 2^MC_LEAF_SHIFT bytes of address space, the root covers 2^47. */
#define MC_LEAF_SHIFT MC_PAGE_MAP_SHIFT
#define MC_ROOT_COUNT ((unsigned)MC_PAGE_MAP_ROOTS)
#define MC_LEAF_COUNT ((unsigned)MC_PAGE_MAP_ENTRIES)

/* Metadata is taken from the kernel in pieces of this size. */
#define MC_META_CHUNK (64ull << 10)

/* Ended threads whose structs are looked through for spans, at most, when one of a class is
 * wanted: bounds the cost with thousands of them. */
#define MC_ADOPT_TRIES 8

_Static_assert(MC_ARENA_SIZE_MIN % (64 * MC_SLICE) == 0, "arenas are whole bitmap words");
_Static_assert(MC_ARENA_SIZE_MIN >= MC_COMMIT_SLICES * MC_SLICE, "arenas are whole commit runs");
_Static_assert(MC_SMALL_MAX *MC_SPAN_SLOTS_MIN <= 16 * MC_SLICE, "the largest span is 16 slices");

#endif
