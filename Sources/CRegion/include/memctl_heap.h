/* SPDX-License-Identifier: MIT */
/* The heap's structures, as they lie in the process' memory.
 *
 * The heap works on these very structs; memctl reads them out of a live process or a core file.
 * The way in is the exported data symbol `memctl_heap_root` (its address is in the region too).
 *
 *     root -> arenas[]      address ranges cut into slices, with bitmaps: used, dirty, ...
 *          -> span_pools[]  all span structs there are, in runs; `state` tells which are in use
 *          -> threads       list of all thread structs ever made
 *
 * Everything an outside reader needs follows from the spans:
 *     live slots  = used - remote count - (1 if CURRENT) - slots of it that a thread is about to
 *                   serve, or has in `reuse` or in its cache
 *     used bytes  = sum over live spans of live slots * slot_size
 *     free slots  = slot_count - live slots     (those beyond `fresh` were never touched)
 *     allocations = sum of `allocations` over all structs of the class, in use or not, and lists of threads'
 *                   caches, of mc_counts_allocations() over what threads serve, + slots_taken of the root
 * A cache is known by class, not by span: mc_thread.cache leads to a list a class, whose `used` is
 * minus the number of its slots, and to proxies: those of state MC_SPAN_PROXY have slot_count - used
 * slots of their class.
 * Pointers are kept as uint64_t, atomics as plain fields: Swift imports neither pointers it may
 * not follow nor _Atomic. [const] written before the struct is published, [owner] by the owning
 * thread, [shared] by any thread, atomically. */
#ifndef MEMCTL_HEAP_H
#define MEMCTL_HEAP_H

#include <stddef.h>
#include <stdint.h>

#define MC_HEAP_MAGIC 0x3170616568636d89ull /* 0x89 "mcheap1" */

enum {
    MC_HEAP_VERSION = 11,

    MC_QUANTUM = 16,     /* smallest slot and alignment of every one: max_align_t */
    MC_SLICE_SHIFT = 14, /* a slice is 16 KiB: the unit an arena is cut in */
    MC_SLICE = 1 << MC_SLICE_SHIFT,
    MC_LINEAR_MAX = 256,      /* classes are one quantum apart up to here ... */
    MC_STEPS = 8,             /* ... and above every doubling is cut in so many: slack <= 1/9 */
    MC_SMALL_MAX = 128 << 10, /* largest slot of a class; more is whole slices or a mapping */
    MC_HUGE_PAGE =
        2 << 20, /* of the kernel, on x86-64: arenas that may have some are of whole ones */
    MC_CLASS_COUNT = 16 + 9 * MC_STEPS,
    MC_CLASS_LARGE = MC_CLASS_COUNT, /* large and huge slots, where classes are counted */
    MC_CLASS_HUGE,
    MC_COUNTED_CLASSES,
    MC_CACHE_CLASSES = 16 + 4 * MC_STEPS, /* those whose remote slots are cached: up to 4 KiB */
    MC_PROXIES = 128,

    MC_ARENAS_MAX = 1024,
    MC_SPAN_POOLS_MAX = 4096,
};

enum {
    MC_SPAN_UNUSED,
    MC_SPAN_CLASS,
    MC_SPAN_LARGE,
    MC_SPAN_HUGE,
    MC_SPAN_WAITING, /* a large one that is free and kept by a thread; see mc_thread.large */
    MC_SPAN_CACHE,   /* no span: a list of a thread's cache */
    MC_SPAN_PROXY,   /* no span: stands there for one of another thread's */
};

/* Bits of mc_span.flags. [owner] for class spans; of large and huge ones whoever holds the slot. */
enum {
    MC_SPAN_TAGGED = 1, /* `tags` (class) or `tag` (large, huge) may hold tags: frees look there */
    MC_SPAN_FULL =
        2, /* no slot is free, but for MC_REMOTE_GONE; and it is on no list of its owner */
    MC_SPAN_KEPT = 4,     /* empty, kept by its owner for the next request until the next tick */
    MC_SPAN_CURRENT = 8,  /* serves its owner's requests; counts one more in `used` */
    MC_SPAN_ZERO = 16,    /* slots beyond `fresh` read as zero */
    MC_SPAN_GROWING = 32, /* large: a small object that grows, counted in its maker's `growing` */
};

/* Where a free puts a slot: the list of a span, or one that several spans share. */
struct mc_list {
    uint64_t free; /* [owner] slots, last freed first */
    int32_t used;  /* [owner] a free takes 1 off; at 0 there is something to be done */
    uint32_t more; /* [owner] of a span its `allocations`; else see mc_reuse_count() */
};

/* A span: slices of one slot size, or one large or huge slot.
 * Invariants, asserted by mc_heap_check():
 *   1. used + |free| + |slots that start in purged parts| == fresh + (1 if CURRENT), and
 *      fresh <= slot_count; so a span whose `used` falls to 0 is not anybody's current one
 *   2. every slot on `remote`, in a thread's cache or about to be served is still counted in `used`
 *   3. limit == mc_limit_of(fresh, slot size), if not TAGGED, nothing is purged, and it is not FULL or
 *      of a direct class; else 0
 *   4. a free slot's second word is `mark`; a slot handed out never starts with it there
 *   5. the tag of a free slot is 0
 *   6. list is the one of its own; of a FULL one of a direct class `reuse` of what its owner serves
 * The first line of the cache is what every free reads, also one by another thread, and seldom changes;
 * the second is what frees write. What is the owner's is for a moment that of whoever gives back a span that
 * others have freed whole, see waiting.h. */
struct mc_span {
    uint64_t base;       /* [const] first slot */
    uint64_t limit;      /* [owner] what the short path of free serves, see mc_limit_of(); 0, which
                            may come from others, of a proxy or a whole span given back: nothing */
    uint64_t reciprocal; /* [const] see mc_reciprocal_of(); 0 for large and huge */
    uint64_t mark;       /* [const] */
    uint64_t owner;      /* [shared] struct mc_thread; 0 for large and huge */
    uint16_t fresh;      /* [owner] slots ever carved; those beyond were never touched by us */
    uint16_t slot_count; /* [const] */
    uint8_t state;       /* [shared] MC_SPAN_, stored last when made and first when unmade */
    uint8_t flags;       /* see above */
    uint8_t class_index; /* [const] or MC_CLASS_LARGE, MC_CLASS_HUGE: whose allocations these are */
    uint8_t untagged_frees; /* [owner] frees without a tag while TAGGED; else see trim.c, cache.c */
    union {
        uint64_t list;      /* [owner] class, proxy: address of a struct mc_list for frees */
        uint64_t slot_size; /* large, huge: the request, whole pages; see mc_slot_size() */
    };
    uint64_t purged; /* [owner] of each 64th of the span: given back, its slots not on `free` */

    uint64_t free; /* [owner] free slots, last freed first */
    /* [owner] Slots handed out, or on `remote`; and how many the struct served of its class, modulo 2^32: the
     * root counts the rounds. Not one word, since a free takes 1 off, and sees by that whether it is 0. */
    int32_t used;
    uint32_t allocations;
    union {
        uint64_t remote; /* [shared] slots freed by other threads: address | count << 48 */
        uint64_t seen;   /* [owner] a proxy: `used` when it was last looked at */
        uint64_t strays; /* [owner] a list of the cache: see goes_home() in cache.c */
    };
    uint64_t notify_next; /* [shared] next on the owner's `notified` list | see span.c << 48 */
    union {
        uint64_t size;      /* large, huge: bytes of address space; see mc_span_size() */
        uint64_t more_tags; /* class: address of the other tags, less what the first take; or 0 */
    };
    union {
        uint64_t tags;   /* class: address of mc_tags_first() tags; 0 until one was wanted */
        uint64_t tag;    /* large, huge: the slot's tag */
        uint64_t last;   /* [owner] a proxy: the slot that was freed first, the end of its list */
        uint64_t homing; /* [owner] a list of the cache: see goes_home() in cache.c */
    };
    union {
        uint64_t next;  /* [owner] class: next span of the class with free slots; or next proxy */
        uint64_t maker; /* large, huge: struct mc_thread that asked for it, or 0 */
    };
    union {
        uint64_t previous;  /* [owner] class */
        uint64_t requested; /* large, huge: bytes asked for, when TAGGED or GROWING */
    };
};
_Static_assert(sizeof(struct mc_span) == 128, "two cache lines: what frees read, what they write");
_Static_assert(offsetof(struct mc_span, free) == 64, "a remote free stays off the owner's line");
_Static_assert(offsetof(struct mc_span, used) - offsetof(struct mc_span, free) ==
                       offsetof(struct mc_list, used) &&
                   offsetof(struct mc_span, allocations) - offsetof(struct mc_span, free) ==
                       offsetof(struct mc_list, more),
               "the last two are a struct mc_list");

enum { MC_SPAN_LIST_AT = offsetof(struct mc_span, free) };

/* Where a proxy of a thread may be, one place for each span of another's. [owner]
 *     stands_for   address of the span whose proxy is there, or 0
 *     wanted_by    address of another span, of which slots were freed, plus how many they were since one
 *                  of a third */
struct mc_proxy_place {
    uint64_t stands_for, wanted_by;
};

/* What a thread has of others' slots. */
struct mc_cache {
    struct mc_span lists[MC_CACHE_CLASSES];
    struct mc_proxy_place places[MC_PROXIES];
    struct mc_span proxies[MC_PROXIES];
};
enum {
    MC_CACHE_PLACES_AT = offsetof(struct mc_cache, places),
    MC_CACHE_PROXIES_AT = offsetof(struct mc_cache, proxies),
};
_Static_assert(MC_CACHE_PROXIES_AT == 2 * 4096, "who frees few of others' slots touches two pages");

/* An arena: address space cut into slices; the bitmaps lie behind the struct, one after the other,
 * `words` each, in the order of these names. A set bit means:
 *     used       handed out (or held by a purge)
 *     committed  readable and writable (bit i: the i-th run of MC_COMMIT_SLICES slices)
 *     dirty      may hold data: not known to read as zero
 *     aging      was free and dirty at the last tick: purged at the next */
enum { MC_COMMIT_SLICES = 64 };
enum { MC_ARENA_USED, MC_ARENA_COMMITTED, MC_ARENA_DIRTY, MC_ARENA_AGING, MC_ARENA_BITMAPS };

struct mc_arena {
    uint64_t base;        /* [const] multiple of MC_SLICE */
    uint64_t slice_count; /* [shared] multiple of 64; 0 once the arena is unmade */
    uint64_t free_slices; /* [shared] advisory: tells where to look */
    uint32_t hint;        /* [shared] advisory: word to start looking at */
    uint32_t populated;   /* [shared] slices that are free and dirty */
    uint64_t bitmaps;     /* [const] address of the first bitmap */
    uint64_t words;       /* [const] 64-bit words of each bitmap */
    uint64_t start;       /* [const] of the mapping, somewhat before base */
    uint32_t unmade;      /* [shared] 1: the struct may serve another arena */
    uint32_t huge;        /* [shared] 1: huge pages may back it */
};
_Static_assert(sizeof(struct mc_arena) == 64, "heap layout is an ABI");

enum { MC_LARGE_KEPT = 8 };

/* The page map: root[address >> MC_PAGE_MAP_SHIFT] -> leaf[address >> MC_SLICE_SHIFT, modulo the
 * entries of a leaf] -> span or 0. A class span is found by every slice, others by the first. */
enum {
    MC_PAGE_MAP_SHIFT = 30,
    MC_PAGE_MAP_ROOTS = 1 << (47 - MC_PAGE_MAP_SHIFT),
    MC_PAGE_MAP_ENTRIES = 1 << (MC_PAGE_MAP_SHIFT - MC_SLICE_SHIFT),
};

enum { MC_THREAD_FREE, MC_THREAD_LIVE, MC_THREAD_BUSY, MC_THREAD_LOST };

enum {
    MC_DIRECT_MAX = 1024,
    MC_DIRECT_COUNT = MC_DIRECT_MAX / MC_QUANTUM + 1,
    MC_DIRECT_CLASSES = 16 + 2 * MC_STEPS, /* those of slots up to there */
};

/* Slots on their way from a span to the thread's requests of one class: all that were free in the span
 * when the last of these were gone, or that the thread had cached. Nobody uses them, but they count in
 * the `used` of the spans they lie in; so do those in `reuse`. */
struct mc_serving {
    uint64_t free;        /* [owner] slots */
    uint64_t counts;      /* [owner] allocations << MC_COUNTS_SHIFT, less the number of its slots */
    uint64_t span;        /* [owner] in which they lie; 0: in those of others, or there are none */
    struct mc_list reuse; /* [owner] slots of the thread's FULL spans, see mc_reuse_count() */
};

enum { MC_COUNTS_SHIFT = 16, MC_COUNTS_ALLOCATION = (1 << MC_COUNTS_SHIFT) + 1 };

/* Of `reuse` of a thread's struct mc_serving `used` says how many slots more it may have, and `more` how many in
 * all, with MC_REUSE_SERVED if what is in `free` comes from there, and so may lie in any span of the thread's. */
enum { MC_REUSE_SERVED = 1 << 16, MC_SERVING_REUSE_AT = offsetof(struct mc_serving, reuse) };

static inline uint32_t mc_reuse_count(struct mc_list reuse)
{
    return (uint16_t)(reuse.more - (uint32_t)reuse.used);
}

static inline int mc_reuse_is_served(struct mc_list reuse)
{
    return (reuse.more & MC_REUSE_SERVED) != 0;
}

/* A thread: what one thread of the program owns of the heap. Outlives it, and serves another. */
struct mc_thread {
    struct mc_span nothing; /* [const] all 0: where frees of what is not the thread's own end */
    uint64_t current[MC_CLASS_COUNT]; /* [owner] span that serves a class; the none span if empty */
    uint64_t spans[MC_CLASS_COUNT];   /* [owner] other spans with free slots, by next/previous */
    uint64_t kept[MC_CLASS_COUNT];    /* [owner] an empty span, or 0 */
    uint64_t next;                    /* [const] next thread made */
    uint32_t number;                  /* [const] 1, 2, 3, ... */
    uint32_t tid;                     /* [owner] kernel's id */
    uint64_t notified;                /* [shared] spans that other threads freed into */
    uint32_t state;                   /* [shared] MC_THREAD_ */
    uint32_t until_look;              /* [owner] bytes until it looks at the clock again */
    uint64_t generation;              /* [owner] of forks, see thread.c */
    uint64_t large[MC_LARGE_KEPT];    /* [shared] large spans that wait to be used again, or 0 */
    uint16_t large_next;              /* [owner] the place that was filled last */
    uint16_t grew;         /* [owner] how many small objects in a row grew far, see growing.h */
    uint16_t growing;      /* [owner] GROWING spans that it made, less those that it freed itself */
    uint16_t growing_gone; /* [shared] those of them that others freed; both modulo 2^16 */
    uint64_t cache;        /* [owner] address of its struct mc_cache, or 0 */
    uint64_t stack_at;     /* [owner] an address on the thread's stack */
    struct mc_serving serving[MC_DIRECT_CLASSES];
    uint8_t lent[MC_CLASS_COUNT]; /* [owner] requests of the class that another one served */
    uint8_t
        grown[MC_CLASS_COUNT]; /* [owner] spans of the class made since one was unmade, or 255 */
    uint64_t held;             /* [owner] bytes of the class spans it owns */
    uint64_t turned; /* [owner] bytes of spans made or emptied since it last called that too much */
    uint32_t looks;  /* [owner] how often it took back what others freed */
    uint32_t looked; /* [shared] how often that was at the last tick */
};

struct mc_heap_pool {
    uint64_t start; /* address of the first struct mc_span */
    uint64_t count; /* structs that were ever given out */
};

/* Address ranges of the heap's own structures, as they were taken from the kernel. */
struct mc_meta_range {
    uint64_t start; /* [shared] stored last; 0: this record was never used */
    uint64_t size;  /* [shared] 0: given back */
};

enum { MC_META_LIST_MAX = 31 };

/* Lists of them, the newest first. */
struct mc_meta_list {
    uint64_t next;  /* [const] */
    uint64_t count; /* [shared] records taken; may pass MC_META_LIST_MAX */
    struct mc_meta_range ranges[MC_META_LIST_MAX];
};
_Static_assert(sizeof(struct mc_meta_list) == 512, "heap layout is an ABI");

/* Which memory of the program huge pages may back: what is densely used, all from the start, or none. */
enum mc_huge_pages { MC_HUGE_DENSE, MC_HUGE_ALWAYS, MC_HUGE_NEVER };

struct mc_heap_root {
    uint64_t magic;
    uint32_t version;
    uint32_t span_size; /* sizeof(struct mc_span) */
    uint32_t thread_size;
    uint32_t class_count;
    uint64_t arena_count;    /* [shared] */
    uint64_t arenas;         /* address of MC_ARENAS_MAX addresses of struct mc_arena */
    uint64_t pool_count;     /* [shared] */
    uint64_t pools;          /* address of MC_SPAN_POOLS_MAX struct mc_heap_pool */
    uint64_t threads;        /* [shared] newest struct mc_thread */
    uint64_t thread_count;   /* [shared] structs made */
    uint64_t metadata_bytes; /* [shared] address space of the heap's own structures */
    uint64_t tag_bytes;      /* [shared] of which tags */
    uint64_t huge_count;     /* [shared] */
    uint64_t huge_bytes;     /* [shared] */
    uint64_t purged_bytes;   /* [shared] given back to the kernel so far */
    uint64_t version_text;   /* address of a terminated string */
    uint64_t span_count;     /* [shared] structs of the pools that were ever used, the first ones */
    uint64_t page_map;       /* address of MC_PAGE_MAP_ROOTS addresses of leaves, or 0s */
    uint64_t none_span;      /* address of the span that serves a class without spans */
    /* Where the map of its own spans is in a thread's struct, and how many entries it has: each is 0,
     * or the address of the span's struct less the thread's. The entry of an address is its slice,
     * modulo their number. */
    uint32_t own_map, own_map_count;
    uint64_t meta_lists; /* [shared] newest struct mc_meta_list */
    /* [shared] How often slices of an arena, and mappings of their own for huge slots, were asked
     * for. */
    uint64_t slices_taken, slices_refused;
    uint64_t mappings_taken, mappings_refused;
    /* [shared] The same of slots, by class. Of those taken only what spans counted whose struct now
     * counts for another class. */
    uint64_t slots_taken[MC_COUNTED_CLASSES], slots_refused[MC_COUNTED_CLASSES];
    uint64_t huge_pages; /* [const] MC_HUGE_ */
};

/* Allocations that a word mc_serving.counts knows of; modulo 2^48. */
static inline uint64_t mc_counts_allocations(uint64_t counts)
{
    uint64_t used = (uint64_t)(int64_t)(int16_t)counts;
    return (counts - used) >> MC_COUNTS_SHIFT;
}

/* Slots of which such a word is less. */
static inline uint32_t mc_counts_listed(uint64_t counts)
{
    return (uint16_t) - (uint16_t)counts;
}

/* Slot size of a class. Requires index < MC_CLASS_COUNT.
 *     class   0   1 ..  15 |  16   17 ..   23 |  24   25 ..   31 | ..   87
 *     slot   16  32 .. 256 | 288  320 ..  512 | 576  640 .. 1024 | .. 131072 */
#define MC_DOUBLING(quanta)                                                                        \
    9 * (quanta), 10 * (quanta), 11 * (quanta), 12 * (quanta), 13 * (quanta), 14 * (quanta),       \
        15 * (quanta), 16 * (quanta)
static inline uint64_t mc_class_slot_size(unsigned index)
{
    /* clang-format off */
    static const uint16_t quanta[MC_CLASS_COUNT] = {
        1, 2, 3, 4, 5, 6, 7, 8, MC_DOUBLING(1),
        MC_DOUBLING(2), MC_DOUBLING(4), MC_DOUBLING(8),
        MC_DOUBLING(16), MC_DOUBLING(32), MC_DOUBLING(64),
        MC_DOUBLING(128), MC_DOUBLING(256), MC_DOUBLING(512),
    };
    /* clang-format on */
    return quanta[index] * (uint64_t)MC_QUANTUM;
}

/* The class that serves a request. Requires size <= MC_SMALL_MAX. */
static inline unsigned mc_class_for(size_t size)
{
    if (size <= MC_LINEAR_MAX) return size ? (unsigned)((size - 1) / MC_QUANTUM) : 0;
    unsigned log2 = 63u - (unsigned)__builtin_clzl(size - 1);
    unsigned step = (unsigned)((size - 1) >> (log2 - 3)) - MC_STEPS;  /* 3 = log2(MC_STEPS) */
    return MC_LINEAR_MAX / MC_QUANTUM + (log2 - 8) * MC_STEPS + step; /* 8 = log2(MC_LINEAR_MAX) */
}
_Static_assert(MC_LINEAR_MAX == 1 << 8 && MC_STEPS == 1 << 3, "mc_class_for's shifts");
_Static_assert(MC_SMALL_MAX == MC_LINEAR_MAX << 9, "MC_CLASS_COUNT has nine doublings");
_Static_assert(MC_DIRECT_MAX == MC_LINEAR_MAX << 2, "MC_DIRECT_CLASSES has two doublings");

/* Bytes of a slot. */
static inline uint64_t mc_slot_size(const struct mc_span *span)
{
    unsigned index = span->class_index;
    return index < MC_CLASS_COUNT ? mc_class_slot_size(index) : span->slot_size;
}

/* floor(2^64 / slot_size) + 1: an offset in a span is divided by the slot size by multiplying it with this. The
 * upper half of the product is the quotient. The lower half is q * e for an offset of q slots, where e =
 * reciprocal * slot_size - 2^64 is in 1 .. slot_size, and above that, at least the reciprocal, for an offset inside a
 * slot. So with one comparison, against count * e, it is told whether one of the first `count` slots starts at the
 * offset: as long as (q + count + 1) * e is less than the reciprocal, which holds for whatever lies less than 2^46
 * from the span, before it or behind. After Lemire, Kaser, Kurz: "Faster remainder by direct computation", 2019. */
static inline uint64_t mc_reciprocal_of(uint64_t slot_size)
{
    return UINT64_MAX / slot_size + 1 + !(slot_size & (slot_size - 1));
}

/* What the lower half is compared with. */
static inline uint64_t mc_limit_of(uint64_t count, uint64_t slot_size)
{
    return count * (mc_reciprocal_of(slot_size) * slot_size);
}

/* Bytes of address space. Those of a class span are what its slots take, in whole slices. */
static inline uint64_t mc_class_span_size(const struct mc_span *span)
{
    return (span->slot_count * mc_slot_size(span) + MC_SLICE - 1) & -(uint64_t)MC_SLICE;
}

static inline uint64_t mc_span_size(const struct mc_span *span)
{
    return span->state == MC_SPAN_CLASS ? mc_class_span_size(span) : span->size;
}

/* 1 if the tag of the slot of that index lies in the first array, which has a quarter of them. Most spans that
 * are not carved to their end are carved to less, and then the array of the others is never made. */
static inline int mc_tag_is_early(uint64_t index, uint32_t slot_count)
{
    return 4 * index < slot_count;
}

/* Tags in the first array. */
static inline uint32_t mc_tags_first(uint32_t slot_count)
{
    return (slot_count + 3) / 4;
}

/* What mc_span.remote may say instead of a slot, see waiting.h: all slots are on it, and somebody gives back
 * their pages; the same, and the owner has looked meanwhile; it is done, and `used` and `purged` tell that
 * all are free. */
enum { MC_REMOTE_HELD = 1, MC_REMOTE_SEEN, MC_REMOTE_GONE };

/* Slots on a `remote` word, and the first of them, or 0. */
static inline uint64_t mc_remote_count(uint64_t remote)
{
    return remote >> 48;
}

static inline uint64_t mc_remote_slot(uint64_t remote)
{
    uint64_t slot = remote & ((1ull << 48) - 1);
    return slot >= MC_QUANTUM ? slot : 0;
}

#endif
