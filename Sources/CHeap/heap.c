/* SPDX-License-Identifier: MIT */
/* The long paths of allocating and freeing; see heap.h. */
#include "heap.h"

#include <string.h>

#include "arena.h"
#include "cache.h"
#include "class.h"
#include "ended.h"
#include "held.h"
#include "huge.h"
#include "large.h"
#include "large_kept.h"
#include "lend.h"
#include "os.h"
#include "pagemap.h"
#include "refill.h"
#include "reuse.h"
#include "root.h"
#include "serving.h"
#include "span.h"
#include "structs.h"
#include "thread.h"
#include "trim.h"
#include "waiting.h"

struct mc_span *mc_span_of(const void *address)
{
    return mc_page_map_find(address);
}

void mc_heap_notice_fork(void)
{
    mc_threads_after_fork();
    mc_heap_on_fork();
}

/* -- allocating ---------------------------------------------------------------------------- */

/* Memory and address space may be hiding in what is kept for later. */
static void relieve(struct mc_thread *self)
{
    mc_serving_return_all(self);
    mc_cache_flush(self);
    mc_threads_reap(); /* before this one collects: what ended threads cached may be its own */
    mc_refill_collect(self);
    mc_refill_flush(self, 0);
    mc_kept_flush_all();
    mc_arena_release_idle();
    mc_arena_purge(1);
}

static unsigned large_class_of(size_t size)
{
    return size <= MC_LARGE_MAX ? MC_CLASS_LARGE : MC_CLASS_HUGE;
}

static unsigned class_of(size_t size)
{
    return size <= MC_SMALL_MAX ? mc_class_for(size) : large_class_of(size);
}

static __attribute__((noinline, cold)) void *refuse(unsigned class_index)
{
    mc_add(&mc_root()->slots_refused[class_index], 1);
    return 0;
}

/* NULL if there is no slot at hand. */
static inline void *pop_at_hand(struct mc_thread *self, unsigned class_index)
{
    if (class_index < MC_DIRECT_CLASSES) {
        struct mc_serving *serving = mc_serving_of(self, class_index);
        return serving->free ? mc_serving_pop(serving) : 0;
    }
    struct mc_span *span = (struct mc_span *)self->current[class_index];
    return span->free ? mc_span_pop(span) : 0;
}

static void *alloc_small(struct mc_thread *self, unsigned class_index, int zero)
{
    mc_refill_look(self, mc_class_slot_size(class_index));
    int is_zero = 0;
    void *object = pop_at_hand(self, class_index);
    if (!object) {
        mc_lend_end(self, class_index);
        if (unlikely(!mc_refill(self, class_index, &is_zero))) {
            relieve(self);
            if (!mc_refill(self, class_index, &is_zero)) return refuse(class_index);
        }
        object = pop_at_hand(self, class_index);
    }
    if (zero) memset(object, 0, is_zero ? sizeof(struct mc_slot) : mc_class_slot_size(class_index));
    return object;
}

/* Time passes for large requests too. Those that a waiting span may serve, which is faster than to look
 * at the clock, count as refills do. */
static void look_for_large(struct mc_thread *self, uint64_t size)
{
    if (size > MC_LARGE_KEPT_MAX || self == &mc_thread_none)
        mc_refill_tick(self);
    else
        mc_refill_look(self, MC_LOOK_REFILL);
}

static void *alloc_large(struct mc_thread *self, size_t size, size_t room, size_t align, int zero)
{
    int is_zero = 0;
    look_for_large(self, size);
    void *object = mc_large_alloc(self, size, room, align, &is_zero);
    if (unlikely(!object)) {
        relieve(self);
        object = mc_large_alloc(self, size, 0, align, &is_zero);
    }
    if (!object) return refuse(large_class_of(size));
    if (is_zero && size <= MC_LARGE_MAX) mc_heap_grew(size);
    if (!zero || is_zero) return object;
    /* Huge pages are zeroed as slowly by the kernel, and would be taken apart. */
    if (size < MC_ZERO_BY_PURGE || mc_huge_is(MC_HUGE_ALWAYS) ||
        mc_os_purge(object, mc_round_up(size, MC_PAGE)))
        memset(object, 0, size);
    return object;
}

void *mc_alloc_slow(size_t size, int zero)
{
    if (unlikely(mc_os_forked())) mc_heap_notice_fork();
    struct mc_thread *self = mc_thread_attach();
    if (unlikely(!self) || unlikely(size > MC_REQUEST_MAX)) return refuse(class_of(size));
    if (size > MC_SMALL_MAX) return alloc_large(self, size, 0, MC_PAGE, zero);
    unsigned index = mc_class_for(size), lender = mc_lend_class(self, index);
    void *object = alloc_small(self, lender, zero);
    mc_lend_from(self, index, lender);
    return object;
}

void *mc_alloc_growing(size_t size)
{
    if (unlikely(mc_os_forked())) mc_heap_notice_fork();
    struct mc_thread *self = mc_thread_attach();
    uint64_t room = size <= MC_GROW_MAPPED ? mc_grow_room(size) : MC_LARGE_MAPPED;
    if (unlikely(!self) || unlikely(size > MC_REQUEST_MAX)) return refuse(class_of(size));
    return alloc_large(self, size, room, MC_PAGE, 0);
}

/* What was freed in the span since the last of its slots here was served. */
static inline void *serve_again(struct mc_thread *self, struct mc_serving *serving)
{
    struct mc_span *span = (struct mc_span *)serving->span;
    if (unlikely(!span) || unlikely(!span->free) || unlikely(span->purged)) return 0;
    uint64_t count;
    void *slot = mc_serving_take(serving, span, &count);
    uint64_t bytes = count * mc_class_slot_size(span->class_index);
    self->until_look -= (uint32_t)(bytes < MC_LOOK_REFILL ? bytes : MC_LOOK_REFILL);
    return slot;
}

/* What was freed in full spans. */
static inline void *serve_reused(struct mc_thread *self, struct mc_serving *serving)
{
    if (likely(!mc_reuse_is_ready(serving))) return 0;
    self->until_look -= MC_REUSE_BYTES;
    mc_reuse_serve(serving);
    return mc_serving_pop(serving);
}

void *mc_alloc_medium(size_t size)
{
    struct mc_thread *self = mc_self;
    void *object = 0;
    if (likely(size <= MC_DIRECT_MAX)) {
        struct mc_serving *serving = mc_direct_serving(size);
        if (likely(self->until_look > MC_LOOK_REFILL)) {
            object = serve_again(self, serving);
            if (unlikely(!object)) object = serve_reused(self, serving);
        }
        if (unlikely(!object) && likely(!mc_led) && likely(size))
            object = mc_refill_turn(self, mc_class_for(size));
    } else if (likely(size <= MC_SMALL_MAX)) {
        object = mc_refill_turn(self, mc_class_for(size));
    } else {
        object = mc_large_again(self, size); /* time passes as it is freed */
    }
    return likely(object != 0) ? object : mc_alloc_slow(size, 0);
}

__attribute__((noinline)) void *mc_alloc(size_t size)
{
    void *object = 0;
    if (likely(size <= MC_DIRECT_MAX))
        object = mc_alloc_direct(size);
    else if (likely(size <= MC_SMALL_MAX))
        object = mc_alloc_current(size);
    return likely(object != 0) ? object : mc_alloc_medium(size);
}

/* Requires align <= MC_SLICE. Returns MC_CLASS_COUNT if no class will do. */
static unsigned aligned_class(size_t size, size_t align)
{
    if (size > MC_SMALL_MAX) return MC_CLASS_COUNT;
    size_t wanted = mc_aligned_size(size, align);
    return wanted <= MC_SMALL_MAX ? mc_class_for(wanted) : MC_CLASS_COUNT;
}

/* From the class of the size and no other. */
static void *alloc_exact(size_t size, size_t align, int zero)
{
    if (!zero && size < MC_SMALL_MAX && align <= MC_SLICE) {
        unsigned index = aligned_class(size, align);
        void *object = 0;
        if (likely(mc_self->until_look > size) && index < MC_CLASS_COUNT)
            object = pop_at_hand(mc_self, index);
        if (likely(object != 0)) {
            mc_self->until_look -= (uint32_t)size;
            return object;
        }
    }
    if (unlikely(mc_os_forked())) mc_heap_notice_fork();
    struct mc_thread *self = mc_thread_attach();
    unsigned index = align <= MC_SLICE ? aligned_class(size, align) : MC_CLASS_COUNT;
    if (unlikely(!self) || unlikely(size > MC_REQUEST_MAX) || unlikely(align > MC_REQUEST_MAX))
        return refuse(index < MC_CLASS_COUNT ? index : large_class_of(size));
    if (index < MC_CLASS_COUNT) return alloc_small(self, index, zero);
    return alloc_large(self, size, 0, align < MC_PAGE ? MC_PAGE : align, zero);
}

void *mc_alloc_aligned(size_t size, size_t align)
{
    return align <= MC_QUANTUM ? mc_alloc(size) : alloc_exact(size, align, 0);
}

/* A slot that the cache just served. It was handed out once in the end, not twice. */
static __attribute__((noinline, cold)) void return_cached(void *object)
{
    struct mc_span *span = mc_page_map_find(object);
    unsigned class_index = span->class_index;
    int direct = class_index < MC_DIRECT_CLASSES;
    if (direct)
        mc_step(&mc_serving_of(mc_self, class_index)->counts, -(1ull << MC_COUNTS_SHIFT));
    else
        mc_span_count_returned((struct mc_span *)mc_self->current[class_index]);
    mc_span_push_remote(span, object);
    if (direct) mc_serving_return(mc_self, class_index);
    mc_cache_flush_class(mc_self, class_index);
}

void *mc_alloc_owned(size_t size, size_t align, int zero)
{
    int direct = align <= MC_QUANTUM && size <= MC_DIRECT_MAX;
    if (direct && likely(mc_self != &mc_thread_none)) mc_lend_end(mc_self, mc_class_for(size));
    for (;;) {
        void *object = direct ? mc_alloc_direct(size) : 0;
        if (!object) object = alloc_exact(size, align, zero && size > MC_DIRECT_MAX);
        if (object && zero && size <= MC_DIRECT_MAX) memset(object, 0, size);
        if (!object || likely(mc_tag_settable(object))) return object;
        return_cached(object);
    }
}

/* -- freeing ------------------------------------------------------------------------------- */

/* After tracing has ended, a span's last tags go one by one, and where few objects are sampled they
 * are few to begin with; once in a while it is worth a look whether all are gone, so that frees take
 * the short path again: after 8 frees since a tag was set, after 64, and every 256. Owner only. */
static void untag(struct mc_span *span)
{
    uint8_t frees = (uint8_t)(span->untagged_frees + 1);
    mc_store(&span->untagged_frees, frees);
    if (likely(frees % 8) || (frees && frees != 8 && frees != 64)) return;
    for (uint32_t i = 0; i < span->fresh; i++) {
        const uint64_t *place = mc_tag_place(span, i);
        if (place && mc_load(place)) return;
    }
    mc_span_clear_flag(span, MC_SPAN_TAGGED);
    mc_span_set_limit(span);
}

static void take_tag(void *object)
{
    size_t usable, requested;
    uint64_t tag = mc_tag_take(object, &usable, &requested);
    if (tag) mc_heap_on_tagged_free(object, usable, requested, tag);
}

static void free_otherwise(void *object);

/* The short path of spans with tags, for their owner: the checks of mc_free_here(), and the tag's slot
 * is the one that they computed. The slot may lie in another span. Little is kept over what is called back,
 * and what is rare asks anew. */
static __attribute__((noinline, aligned(64))) void free_tagged(struct mc_slot *slot,
                                                               struct mc_span *span)
{
    if (unlikely(span->purged)) return free_otherwise(slot);
    unsigned __int128 product = (unsigned __int128)((uint64_t)slot - span->base) * span->reciprocal;
    uint64_t index = (uint64_t)(product >> 64);
    if (unlikely((uint64_t)product >= span->reciprocal) || unlikely(index >= span->fresh) ||
        unlikely(mc_looks_free(slot, span->mark)) || unlikely(mc_os_forked()))
        return free_otherwise(slot);
    uint64_t *place = mc_tag_place(span, index), tag = likely(place != 0) ? mc_load(place) : 0;
    if (likely(tag != 0)) {
        mc_store(place, 0);
        mc_heap_on_tagged_slot_free(span, tag);
    } else {
        untag(span);
    }
    slot->next = (struct mc_slot *)span->free;
    slot->mark = span->mark;
    mc_store(&span->free, (uint64_t)slot);
    int is_empty = mc_step_is_zero(&span->used, -1);
    if (unlikely(is_empty) || unlikely(mc_peek(&span->flags) & MC_SPAN_FULL))
        mc_refill_span_freed(mc_self, span);
}

static void free_large(struct mc_span *span, void *object)
{
    uint64_t size = span->size;
    mc_large_free(mc_self, span, object);
    look_for_large(mc_self, size);
}

/* What the own map did not know: the next free of these slices will be short. And a span's first free
 * since it was full. */
static inline int free_own(struct mc_thread *self, struct mc_span *span, void *object)
{
    if (unlikely(!span->limit)) {
        if (span->flags & MC_SPAN_TAGGED) {
            if (mc_own_map_find(self, (uint64_t)object) == span) return 0; /* comes from there */
            mc_own_map_set(self, (uint64_t)object, span);
            free_tagged(object, span);
            return 1;
        }
        if (!(span->flags & MC_SPAN_FULL)) return 0;
        mc_held_reopen(self, span);
    }
    mc_own_map_set(self, (uint64_t)object, span);
    return mc_free_into(span, object);
}

/* What is plain after one look at the page map; 0: nothing was done. */
static inline int free_found(struct mc_thread *self, struct mc_span *span, void *object)
{
    if (mc_load(&span->state) == MC_SPAN_LARGE) {
        if (unlikely(!mc_large_free_short(self, span, object))) return 0;
        mc_refill_look(self, MC_LOOK_REFILL);
        return 1;
    }
    return mc_load(&span->owner) == (uint64_t)self && free_own(self, span, object);
}

/* 1 if the span is the calling thread's, or becomes so: a thread that asks for nothing before takes what an
 * ended one has left. */
static int is_own_or_inherited(const struct mc_span *span)
{
    uint64_t owner = mc_load_acquire(&span->owner);
    if (owner == (uint64_t)mc_self) return 1;
    /* The span may have been adopted by another before. */
    return mc_thread_inherit((struct mc_thread *)owner) &&
           mc_load(&span->owner) == (uint64_t)mc_self;
}

/* To the thread's cache or to the owner. Time passes for a thread that only frees as well. */
static void free_remote(struct mc_span *span, void *object)
{
    if (mc_cache_push(mc_self, span, object))
        mc_refill_look(mc_self, MC_LOOK_REFILL);
    else
        mc_span_push_remote(span, object);
}

static __attribute__((noinline)) void free_otherwise(void *object)
{
    struct mc_span *found = mc_page_map_find(object);
    if (likely(found != 0) && likely(free_found(mc_self, found, object))) return;
    if (!object) return;
    if (unlikely(mc_os_forked())) mc_heap_notice_fork();
    if (likely(found != 0) && mc_load(&found->state) == MC_SPAN_LARGE &&
        !(mc_load(&found->flags) & MC_SPAN_TAGGED) && found->base == (uint64_t)object) {
        free_large(found, object);
        return;
    }
    struct mc_span *span = mc_span_of_live(object, "free()");
    if (mc_load(&span->flags) & MC_SPAN_TAGGED) take_tag(object);
    if (span->state != MC_SPAN_CLASS) {
        free_large(span, object);
    } else if (!is_own_or_inherited(span)) {
        free_remote(span, object);
    } else {
        if (span->flags & MC_SPAN_TAGGED) untag(span);
        mc_refill_free(mc_self, span, object);
    }
}

/* What the own map leads to is the thread's own span, so it need not be looked for where it has tags. Of
 * what it does not know, another thread's slots are the most. */
void mc_free_slow(void *object, struct mc_span *own)
{
    if (mc_load(&own->flags) & MC_SPAN_TAGGED) return free_tagged(object, own);
    const struct mc_span *found = mc_page_map_find(object);
    if (unlikely(!found) || unlikely(!mc_cache_push_plain(mc_self, found, object)))
        free_otherwise(object);
}

/* Programs that keep account themselves ask right before they free, so the tag is on its way meanwhile. */
size_t mc_usable_size(const void *object, const char *caller)
{
    const struct mc_span *span = mc_span_of_live(object, caller);
    if (mc_load(&span->flags) & MC_SPAN_TAGGED && mc_load(&span->state) == MC_SPAN_CLASS)
        __builtin_prefetch(mc_tag_place(span, mc_slot_index(span, object)), 1);
    return mc_slot_size(span);
}

void mc_heap_commit(void)
{
    mc_arena_commit_all();
}

int mc_heap_trim(void)
{
    uint64_t before = mc_load(&mc_root()->purged_bytes);
    if (mc_self != &mc_thread_none) mc_serving_return_all(mc_self);
    mc_cache_flush(mc_self);
    mc_threads_reap(); /* as in relieve() */
    if (mc_self != &mc_thread_none) {
        mc_refill_collect(mc_self);
        mc_refill_flush(mc_self, 0);
        mc_trim_thread(mc_self);
    }
    mc_kept_flush_all();
    mc_waiting_give_back(1);
    mc_arena_purge(1);
    mc_structs_trim();
    mc_arena_trim_map();
    return mc_load(&mc_root()->purged_bytes) != before;
}
