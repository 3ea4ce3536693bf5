/* SPDX-License-Identifier: MIT */
/* The heap: memory for objects, from mappings only. Knows nothing of traces, libc's names or
 * errno (which it keeps). The only header of CHeap that others include.
 *
 *     malloc(100)  -> mc_alloc_direct(100):   a slot about to be served to the thread, popped
 *     malloc(2000) -> mc_alloc_current(2000): one of the thread's current span for that size
 *     free(p)      -> mc_free(p):             own map -> span of the thread's own; push
 *
 * They are a dozen or two of instructions without atomics or locks, written here to be inlined; what
 * has no slot at hand goes on in mc_alloc_medium(), and all else is behind the two `_slow` calls. There
 * are no locks anywhere in the heap, so a fork at any instant, from any thread, leaves parent and child
 * with a heap that works. */
#ifndef MC_HEAP_H
#define MC_HEAP_H

#include <stddef.h>
#include <stdint.h>

#include "bits.h"
#include "memctl_heap.h"
#include "own_map.h"

/* A free slot. Its first two words are the heap's; live slots are all the program's. */
struct mc_slot {
    struct mc_slot *next;
    uint64_t mark; /* tells free slots from live ones; see mc_span.mark */
};
_Static_assert(sizeof(struct mc_slot) <= MC_QUANTUM, "fits the smallest slot");

/* Where everything begins, for readers from outside. */
extern struct mc_heap_root memctl_heap_root;

/* The calling thread's struct, or a shared one without any spans until its first allocation. */
extern __thread struct mc_thread *mc_self;

/* The struct mc_serving for a request of i quanta, so that none has to be found first. That of none has no
 * slots. */
extern __thread uint64_t mc_direct[MC_DIRECT_COUNT];

/* Bits of the classes whose requests that leads elsewhere (lend.h): mostly none, and then a refill has
 * nothing to end. */
extern __thread uint32_t mc_led; /* [owner] */

/* Page map, see pagemap.h. */
struct mc_span *mc_span_of(const void *address);

/* From this size on a copy made because an object grew gets room to grow on: see limits.h. Smaller
 * ones are copied faster than slices are claimed, and are not for mc_alloc_growing(). */
enum { MC_GROW_MIN = 8 << 10 };

/* Objects. All return NULL when memory is short; sizes above PTRDIFF_MAX are. `zero` says that the
 * memory must read as zero. `align` is a power of two. */
void *mc_alloc(size_t size);        /* whatever serves it; not for short paths */
void *mc_alloc_medium(size_t size); /* what has no slot at hand, but may soon; else as slow */
void *mc_alloc_slow(size_t size, int zero);
void *mc_alloc_aligned(size_t size, size_t align);
void *mc_alloc_owned(size_t size, size_t align, int zero); /* one that mc_tag_settable() */
void *mc_alloc_growing(size_t size);                  /* for a copy of what outgrew its place */
void *mc_realloc_in_place(void *object, size_t size); /* the object, or NULL if it has to move */
void *mc_realloc_short(void *object, size_t size);    /* where all is plain; or NULL, unchanged */
void mc_free_slow(void *object, struct mc_span *own); /* own: what the own map has for it */

/* Bytes the program may use at `object`. A pointer that is no live object's start is a panic that
 * names `caller`, as "free()"; so it is for mc_free and mc_realloc_in_place. */
size_t mc_usable_size(const void *object, const char *caller);

/* A free has made `used` of the span's list 0: that is its own, and the span is empty, or it is one that has all
 * slots it may have. Not inlined: the short path of free then compares with the thread where it is, instead of
 * keeping it at hand. */
__attribute__((noinline)) void mc_list_at_zero(struct mc_span *span);

/* Tags: see tag.h. mc_tag_set() returns 0 if there is no memory for it; only the thread that was
 * just handed the slot may call it, and only if mc_tag_settable(). mc_tag_take() takes the tag off
 * and returns it, with the object's sizes; only large objects keep the one requested. */
#define MC_REQUESTED_UNKNOWN UINT64_MAX
int mc_tag_settable(const void *object);
int mc_tag_set(void *object, size_t requested, uint64_t tag);
uint64_t mc_tag_take(const void *object, size_t *usable, size_t *requested);

/* The same in two steps, with one look at the heap: where the tag of an object just handed out will
 * be, if it can have one (1, else 0), and setting it, after which frees take it off. */
struct mc_tagged {
    struct mc_span *span;
    uint64_t *place;
    size_t usable;
    int large; /* keeps the size requested */
};
int mc_tag_prepare(void *object, struct mc_tagged *tagged);
void mc_tag_finish(const struct mc_tagged *tagged, size_t requested, uint64_t tag);

/* Puts back a tag that was just taken, on the same object. */
void mc_tag_put_back(const void *object, uint64_t tag);

/* Calls `visit` for every live tag. For a forked child that counts anew, alone. */
void mc_tags_visit(void (*visit)(uint64_t tag, uint64_t usable, uint64_t requested, void *context),
                   void *context);

/* Makes all reserved memory usable, while mprotect(2) may still be called. */
void mc_heap_commit(void);

/* Which memory huge pages may back: see huge.h. Before the first allocation. */
void mc_heap_huge_pages(enum mc_huge_pages way);

/* Gives free pages back now. Returns 1 if any went. */
int mc_heap_trim(void);

struct mc_heap_totals {
    uint64_t reserved; /* address space of arenas and huge objects */
    uint64_t used;     /* bytes of live slots */
    uint64_t used_slots;
    uint64_t cached; /* free slots in spans */
    uint64_t huge_bytes, huge_count;
    uint64_t metadata;
    uint64_t free_slices; /* bytes of arenas that are in no span, and committed */
};
void mc_heap_totals(struct mc_heap_totals *totals);

/* Numbers that tell threads apart, from 1; 0 for one that never allocated. */
unsigned mc_thread_number(void);

/* Called back when a tag is on an object that is being freed. Defined by whoever links the heap. */
void mc_heap_on_tagged_free(void *object, size_t usable, size_t requested, uint64_t tag);
/* The same for a slot of this span, which does not keep the size requested, where its owner frees it. */
void mc_heap_on_tagged_slot_free(const struct mc_span *span, uint64_t tag);

/* In a forked child whose one thread may be in the middle of something here: it goes on with another struct,
 * and what it was changing stays as it is for the code that was interrupted there, if that ever goes on. What
 * its own struct has is lost to the child. */
void mc_thread_leave(void);

/* To be called when mc_os_forked() says so; the heap's long paths do. */
void mc_heap_notice_fork(void);

/* Called on the long paths of a forked child, until it calls mc_os_fork_done(). Likewise. */
void mc_heap_on_fork(void);

/* Asserts every invariant of every structure. Only while no other thread allocates. */
void mc_heap_check(void);

/* Of a class span: which slot that is. Requires that it is one. */
static inline uint64_t mc_slot_index(const struct mc_span *span, const void *slot)
{
    return (uint64_t)((unsigned __int128)((uint64_t)slot - span->base) * span->reciprocal >> 64);
}

/* Of a class span: where the tag of its slot is; NULL if it can have none yet. What the owner made is seen
 * through the slot that it handed out. */
static inline uint64_t *mc_tag_place(const struct mc_span *span, uint64_t index)
{
    uint64_t first = mc_load_acquire(&span->tags), more = mc_load_acquire(&span->more_tags);
    uint64_t array = mc_tag_is_early(index, span->slot_count) ? first : more;
    return likely(array != 0) ? (uint64_t *)array + index : 0;
}

static inline struct mc_serving *mc_direct_serving(size_t size)
{
    return (struct mc_serving *)mc_direct[(size + MC_QUANTUM - 1) / MC_QUANTUM];
}

/* Requires that there is one. */
static inline void *mc_serving_pop(struct mc_serving *serving)
{
    struct mc_slot *slot = (struct mc_slot *)serving->free;
    mc_store(&serving->free, (uint64_t)slot->next);
    mc_step(&serving->counts, MC_COUNTS_ALLOCATION);
    slot->mark = 0;
    return slot;
}

/* NULL if there is no slot at hand, or no byte is asked for. Requires size <= MC_DIRECT_MAX. */
static inline void *mc_alloc_direct(size_t size)
{
    struct mc_serving *serving = mc_direct_serving(size);
    return likely(serving->free != 0) ? mc_serving_pop(serving) : 0;
}

/* The size whose class has slots aligned to `align`, a power of two, for a request of `size`: its multiples.
 * Slots begin at multiples of their size, and that of a class is a multiple of every power of two of which
 * the request is, up to a slice. Requires that the sum of both is no overflow. */
static inline size_t mc_aligned_size(size_t size, size_t align)
{
    return (size + !size + align - 1) & -align;
}

/* As mc_alloc_direct(), aligned. Requires size <= MC_DIRECT_MAX. */
static inline void *mc_alloc_aligned_direct(size_t size, size_t align)
{
    size_t wanted = mc_aligned_size(size, align);
    return likely(wanted - 1 < MC_DIRECT_MAX) ? mc_alloc_direct(wanted) : 0;
}

/* A slot at hand whose span has room for its tag, as mc_alloc_direct() and mc_tag_prepare(); NULL if
 * there is none. */
static inline void *mc_alloc_tagged(size_t size, struct mc_tagged *tagged)
{
    if (unlikely(size > MC_DIRECT_MAX)) return 0;
    struct mc_serving *serving = mc_direct_serving(size);
    struct mc_span *span = (struct mc_span *)serving->span;
    if (unlikely(!serving->free) || unlikely(!span) || unlikely(mc_reuse_is_served(serving->reuse)))
        return 0;
    tagged->place = mc_tag_place(span, mc_slot_index(span, (void *)serving->free));
    if (unlikely(!tagged->place)) return 0;
    tagged->span = span;
    tagged->usable = mc_class_slot_size(span->class_index);
    tagged->large = 0;
    return mc_serving_pop(serving);
}

/* The struct counted 2^32 allocations of its class, and begins anew. */
__attribute__((noinline, cold)) void mc_span_went_round(const struct mc_span *span);

/* Of a span that serves its class itself, or a list of the cache. Requires that there is a slot. */
static inline __attribute__((always_inline)) void *mc_span_pop(struct mc_span *span)
{
    struct mc_slot *slot = (struct mc_slot *)span->free;
    mc_store(&span->free, (uint64_t)slot->next);
    mc_step(&span->used, 1);
    if (unlikely(mc_step_is_zero(&span->allocations, 1))) mc_span_went_round(span);
    slot->mark = 0;
    return slot;
}

/* From the current span of a class that is not direct; NULL if that has no slot, or the clock is to be
 * looked at first. Requires MC_DIRECT_MAX < size <= MC_SMALL_MAX. */
static inline __attribute__((always_inline)) void *mc_alloc_current(size_t size)
{
    struct mc_thread *self = mc_self;
    struct mc_span *span = (struct mc_span *)self->current[mc_class_for(size)];
    /* In this order: before a thread has a struct, no bytes are left, and there is no span. */
    if (unlikely(self->until_look <= size) || unlikely(!span->free)) return 0;
    self->until_look -= (uint32_t)size;
    return mc_span_pop(span);
}

/* A byte first: the program has often just written a part of the word, as the end of a string, and
 * a load of all of it would wait until that has reached the cache. */
static inline int mc_looks_free(const struct mc_slot *slot, uint64_t mark)
{
    return *(const unsigned char *)&slot->mark == (unsigned char)mark && slot->mark == mark;
}

/* Puts a live slot where the span's frees go, without any check. The mark is the span's. */
static inline __attribute__((always_inline)) void
mc_free_to_list(struct mc_span *span, struct mc_slot *slot, uint64_t mark)
{
    struct mc_list *list = (struct mc_list *)span->list;
    slot->next = (struct mc_slot *)list->free;
    slot->mark = mark;
    mc_store(&list->free, (uint64_t)slot);
    if (unlikely(mc_step_is_zero(&list->used, -1))) mc_list_at_zero(span);
}

/* 1 if a slot starts there that the short path of free serves. */
static inline __attribute__((always_inline)) int mc_starts_slot(const struct mc_span *span,
                                                                const void *object)
{
    return likely(((uint64_t)object - span->base) * mc_peek(&span->reciprocal) <
                  mc_peek(&span->limit));
}

/* Frees an object of a span of the thread's own, if all is plain: a slot starts there, was handed out
 * once and does not look free. Else 0, and nothing was done. */
static inline __attribute__((always_inline)) int mc_free_into(struct mc_span *span, void *object)
{
    if (!mc_starts_slot(span, object)) return 0;
    struct mc_slot *slot = object;
    uint64_t mark = span->mark;
    if (unlikely(mc_looks_free(slot, mark))) return 0;
    mc_free_to_list(span, slot, mark);
    return 1;
}

static inline __attribute__((always_inline)) void mc_free_here(void *object)
{
    struct mc_span *own = mc_own_map_find(mc_self, (uint64_t)object);
    if (unlikely(!mc_free_into(own, object))) mc_free_slow(object, own);
}

static inline void mc_free(void *object)
{
    mc_free_here(object);
}

#endif
