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

/* Up to here a request is slices of an arena, which the next one may have with its pages; above it has
 * a mapping of its own, which goes back to the kernel when freed and moves by mremap(2) instead of by
 * copying. As the largest threshold of glibc. */
#define MC_LARGE_MAX (32ull << 20)

/* A thread keeps MC_LARGE_KEPT freed large spans until the next tick, of those larger than this no more than
 * MC_LARGE_MAX bytes, or a single one with its room to grow on: their sum bounds what that withholds from others. */
#define MC_LARGE_KEPT_MAX (2ull << 20)

/* So much that large objects left stays populated in arenas until the tick after the next, for others to have: a
 * process that sleeps has no ticks. */
#define MC_POPULATED_MAX (2 * MC_LARGE_MAX)

/* A copy made because an object grew gets room to grow on, from MC_GROW_MIN (heap.h) on: MC_GROW_TIMES
 * the request in address space, at most MC_GROW_ROOM_MAX more than it. Growing to N bytes then copies
 * N/3 instead of 2N. */
#define MC_GROW_TIMES    4
#define MC_GROW_ROOM_MAX (1ull << 20)

/* Above this size such a copy has a mapping: copies of pages are then what growing costs. */
#define MC_GROW_MAPPED (1ull << 20)

/* A smaller object that grew has a page or two of a large span to itself, so that it goes on growing where
 * it is; a thread has MC_GROWING_COUNT of them at most, which bounds what such pages waste, and the last
 * one freed waits for the next. Copies below MC_GROW_FIRST are too cheap for that, but where MC_GROW_SURE of
 * them in a row came as far; few begin at MC_GROW_EARLY then, since what stays as small wastes a page. */
#define MC_GROW_FIRST    512
#define MC_GROW_EARLY    64
#define MC_GROW_SURE     8
#define MC_GROWING_COUNT 16
#define MC_GROWING_EARLY 2
#define MC_GROWING_SIZE  (64ull << 10)

/* realloc to less leaves an object where it is only up to this slack: whoever notes the slack of a
 * slot beside a tag has 15 bits for it. */
#define MC_SLACK_MAX (32ull << 10)

/* What the first arena reserves; each later one as much as all before it together, up to the
 * maximum. So a small process takes little address space (mlockall(2) counts it against
 * RLIMIT_MEMLOCK), and MC_ARENAS_MAX of them are a terabyte. Halved down to the minimum when the
 * kernel refuses (RLIMIT_AS). */
#define MC_ARENA_SIZE     (1ull << 20)
#define MC_ARENA_SIZE_MAX (1ull << 30)
#define MC_ARENA_SIZE_MIN (1ull << 20)

/* An arena becomes accessible in so many pieces, of MC_COMMIT_SLICES at least and MC_COMMIT_MOST bytes at most: each
 * time all threads wait that touch fresh pages. mlockall(2) populates what is accessible: up to half as much
 * as the heap had, and MC_COMMIT_MOST. */
#define MC_COMMIT_PIECES 2
#define MC_COMMIT_MOST   (8ull << 20)

/* Arenas of this size and up may be backed by huge pages of 2 MiB. One is made when all others are full
 * and is as large as they are, so what the last huge page populates too much is at most MC_HUGE_PAGE /
 * MC_HUGE_ARENA of the heap; and what lies in sparsely used spans is bounded by asking, for each huge
 * page, whether of MC_HUGE_SAMPLE spans less than 1 / MC_HUGE_SPARSE is not carved yet. Once a share of
 * 1 / MC_HUGE_PURGED of the arena is purged at a tick, huge pages would only undo the purge. */
#define MC_HUGE_ARENA  (32ull << 20)
#define MC_HUGE_SAMPLE 64
#define MC_HUGE_SPARSE 8
#define MC_HUGE_PURGED 32

/* What is chosen before anybody does: see huge.h. */
#ifndef MC_HUGE_USUAL /* the tests have a variant with them everywhere */
#    define MC_HUGE_USUAL MC_HUGE_DENSE
#endif

/* The first arena where huge pages are wanted always: its first piece is one. */
#define MC_HUGE_ARENA_FIRST (MC_COMMIT_PIECES * MC_HUGE_PAGE)

/* Freed slices keep their pages for one to two ticks, since touching fresh pages costs more than
 * all else the heap does; then they go back to the kernel. */
#ifndef MC_TICK_MS /* the tests have a variant with ticks all the time */
#    define MC_TICK_MS 200
#endif

/* A thread looks at the clock, for the tick, once it was served so many bytes: by requests above
 * MC_DIRECT_MAX, by large ones and by refills, each of which counts as MC_LOOK_REFILL. */
#define MC_LOOK_BYTES  (512u << 10)
#define MC_LOOK_REFILL (64u << 10)

/* A thread whose empty spans have so much more memory than all its others gives them back at once: it has
 * become smaller, and may never ask for anything again. It looks whenever it has made or emptied as many
 * bytes of spans. */
#define MC_IDLE_BYTES (512u << 10)

/* Whenever spans and large objects have taken so much memory that was never used, or had gone back, ended
 * threads are looked for: each has left an empty span of many classes, and what it cached. Not each time,
 * and more rarely the more threads there are to look at; and one stays as it is for the next that starts. */
#define MC_REAP_FRESH        (1ull << 20)
#define MC_REAP_FRESH_THREAD (16ull << 10)

/* Whenever so much was purged, the structs and page-map leaves of what is gone are looked through for
 * pages to give back: with 128 bytes for a span of 16 KiB and more, this is where it is worth it. */
#define MC_TRIM_PURGED (16ull << 20)

/* At a tick, of what others freed of a thread that waits: so many bytes at most, and so many spans looked at. */
#define MC_WAITING_BYTES (512ull << 20)
#define MC_WAITING_SPANS 65536

/* At a tick, free slots of this size and up lose their pages while others of the span live on. */
#define MC_TRIM_SLOT MC_PAGE
/* So many spans of a class at most, or a heap of many gigabytes would pay milliseconds a tick. */
#define MC_TRIM_SPANS 256

/* What a thread caches of other threads' slots, a class: so many bytes and slots at most, the first so
 * many of a class it never asked for, since what it frees its owner wants back. The list
 * serves the thread's requests when it has MC_CACHE_SERVES of them: for less, the change from list to
 * span and back costs more than it saves, and a single object that was handed over is better given
 * back, since it shares its cache line with its owner's. */
#define MC_CACHE_BYTES  (16u << 10)
#define MC_CACHE_FIRST  (4u << 10)
#define MC_CACHE_SLOTS  256
#define MC_CACHE_SERVES 8
/* A proxy may have as many slots as a list, or half as many where the list serves requests; classes of which
 * a list has fewer than these have no proxies. A span gets one once so many of its slots were freed in a
 * row, as far as frees of spans that could have the same place are concerned. */
#define MC_PROXY_SLOTS 8
#ifndef MC_PROXY_WANTED
#    define MC_PROXY_WANTED 4
#endif
/* One time in so many the list goes to the owners instead of serving: what is handed over once would be
 * remote for ever otherwise, and its frees long ones. */
#ifndef MC_CACHE_RETURNS
#    define MC_CACHE_RETURNS 16
#endif
/* Where slots go round many threads, each comes to free those of all others' spans, more than it has proxies for.
 * So if from one time to the next as many slots came without a proxy as a part of what the list may have, one in
 * MC_CACHE_STRAYS, the list goes to the owners each of the next MC_CACHE_HOMING times. A proxy made meanwhile may
 * have a part of a list, one in MC_PROXY_HOMING. */
#define MC_CACHE_STRAYS 16
#define MC_CACHE_HOMING 64
#define MC_PROXY_HOMING 4
/* A thread that never allocated has a cache, and the struct that takes, from this many frees on. */
#define MC_CACHE_ATTACH 16

/* Of its own full spans' slots a thread has so many of a class, and bytes, at most: never more than a span has.
 * They serve requests from a quarter of that on. 32 and 128 slots took a few per cent more. */
#define MC_REUSE_SLOTS  64
#define MC_REUSE_BYTES  (32u << 10)
#define MC_REUSE_SERVES 4

/* A span has this many slots at least ... */
#define MC_SPAN_SLOTS 8
/* ... and as many as fit here, so that the way to a new span is rare for small slots. */
#define MC_SPAN_SIZE_WANTED  (128ull << 10)
#define MC_SPAN_SLOTS_WANTED 128
/* Of slots above 32 KiB fewer: what an idle span keeps from others is bounded by this size, and a
 * span with a slot in use keeps at most seven free ones. */
#define MC_SPAN_SLOTS_MIN  2
#define MC_SPAN_SLICES_MAX 16

/* Until a thread has had so many bytes of a class, and if its slots are larger than the other, the slots
 * of a coarser class serve it: a page for each class that is used once or twice is most of what a small
 * process has of a heap. */
#define MC_LEND_BYTES (2ull << 10)
#define MC_LEND_ABOVE 64
/* A class that is out of slots has those of one of so many coarser ones instead of fresh ones: half as
 * large again at most, or more would be slack than that saves. Up to MC_DIRECT_MAX, where requests then
 * go on to have them without being asked: of one that has a page's worth, up to twice as large. */
#define MC_LEND_STEPS        4
#define MC_LEND_STEPS_DIRECT 4

/* Pages of a class that has made so many spans and given back none come several at once, which the kernel
 * does in three quarters of the time: as little may be in vain as those pages are of so many spans. */
#define MC_GROWN_SPANS 8
#define MC_GROWN_PAGES 4

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
_Static_assert(MC_SPAN_SLICES_MAX *MC_SLICE / MC_QUANTUM <= INT16_MAX &&
                   2 * MC_CACHE_SLOTS <= INT16_MAX,
               "mc_serving.counts is less the slots that are to be served, by 16 bits with a sign");
_Static_assert(MC_SMALL_MAX *MC_SPAN_SLOTS_MIN <= MC_SPAN_SLICES_MAX * MC_SLICE,
               "the largest slots fit a span");

#endif
