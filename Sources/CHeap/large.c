/* SPDX-License-Identifier: MIT */
/* See large.h. */
#include "large.h"

#include "arena.h"
#include "check.h"
#include "large_memory.h"
#include "limits.h"
#include "os.h"
#include "pagemap.h"
#include "print.h"
#include "root.h"
#include "span.h"
#include "structs.h"
#include "thread.h"

static void unmake(struct mc_span *span, int state)
{
    uint64_t base = span->base, size = span->size;
    mc_page_map_clear(base, 1);
    mc_span_struct_give(span);
    mc_large_memory_give(base, size, state);
}

static void set_up(struct mc_span *span)
{
    span->limit = span->owner = 0;
    span->reciprocal = 0;
    span->free = 0;
    mc_store(&span->remote, 0); /* seen by waiting.c, as are `flags` */
    mc_store(&span->mark, 0);
    mc_store(&span->slot_count, 1); /* seen by mc_spans_dense() */
    mc_store(&span->fresh, 1);
    mc_store(&span->flags, 0);
    span->untagged_frees = 0;
    span->purged = 0;
    span->tag = 0;
    span->maker = 0;
    span->requested = 0;
}

/* -- the rest ------------------------------------------------------------------------------ */

enum { REST = MC_LARGE_KEPT - 1, GROWING = REST - 1 };

static unsigned place_after(unsigned place)
{
    return place + 1 < GROWING ? place + 1 : 0;
}

static unsigned place_before(unsigned place, unsigned count)
{
    return place ? place - 1 : count - 1;
}

static int has_places(const struct mc_thread *self)
{
    return self && self != &mc_thread_none;
}

/* The span in this place, now the caller's, or NULL. The place is exchanged, since another thread may
 * be flushing it. A span that was put in two places does not wait in the second. */
static struct mc_span *take_place(struct mc_thread *self, unsigned place)
{
    if (!mc_load(&self->large[place])) return 0;
    struct mc_span *span = (struct mc_span *)mc_take(&self->large[place]);
    if (span && unlikely(mc_load(&span->state) != MC_SPAN_WAITING))
        mc_panic("free()", (void *)span->base, "double free");
    return span;
}

/* A span that was in the place has to go, a large one with its pages: one that waits is enough. */
static void replaced(struct mc_span *old)
{
    if (old->size <= MC_LARGE_KEPT_MAX) {
        unmake(old, MC_SPAN_LARGE);
        return;
    }
    uint64_t base = old->base, slices = old->size / MC_SLICE;
    mc_page_map_clear(base, 1);
    mc_span_struct_give(old);
    mc_arena_give_pages(base, slices);
}

static void put_place(struct mc_thread *self, unsigned place, struct mc_span *span)
{
    /* Others only ever empty it. Either pairs with take_place(). */
    if (likely(!mc_load(&self->large[place]))) {
        mc_store_release(&self->large[place], (uint64_t)span);
        return;
    }
    struct mc_span *old = (struct mc_span *)__atomic_exchange_n(&self->large[place], (uint64_t)span,
                                                                __ATOMIC_ACQ_REL);
    if (old) replaced(old);
}

/* Makes the span end after `size` bytes; what is behind becomes the thread's rest. */
static void cut(struct mc_thread *self, struct mc_span *span, uint64_t size)
{
    uint64_t base = span->base + size, more = span->size - size;
    struct mc_span *rest = mc_span_struct_take();
    mc_store(&span->size, size);
    if (!rest || mc_page_map_set(base, 1, rest)) {
        if (rest) mc_span_struct_give(rest);
        mc_arena_give(base, more / MC_SLICE);
        return;
    }
    mc_store(&rest->base, base);
    mc_store(&rest->size, more);
    rest->slot_size = more;
    set_up(rest);
    mc_span_count_for(rest, MC_CLASS_LARGE);
    mc_store(&rest->counts, rest->counts + 1); /* `used` is 1 while a span waits, too */
    mc_store_release(&rest->state, MC_SPAN_WAITING);
    put_place(self, REST, rest);
}

/* The rest, which is right behind the span, becomes part of it. */
static void join(struct mc_span *span, struct mc_span *rest)
{
    uint64_t more = rest->size;
    mc_page_map_clear(rest->base, 1);
    mc_span_struct_give(rest);
    mc_store(&span->size, span->size + more);
}

/* Joins the rest if it is right behind. */
static inline int join_rest(struct mc_thread *self, struct mc_span *span)
{
    const struct mc_span *seen = (const struct mc_span *)mc_load(&self->large[REST]);
    if (!seen || mc_load(&seen->base) != span->base + span->size) return 0;
    struct mc_span *rest = take_place(self, REST);
    if (!rest) return 0;
    if (unlikely(rest->base != span->base + span->size)) {
        put_place(self, REST, rest);
        return 0;
    }
    join(span, rest);
    return 1;
}

/* Takes the slices behind the span up to `size` bytes in all. */
static int extend(struct mc_span *span, uint64_t size)
{
    if (size > span->size) {
        if (mc_arena_take_at(span->base + span->size, (size - span->size) / MC_SLICE)) return 0;
        mc_store(&span->size, size);
    }
    return 1;
}

/* The front of what waits there, or NULL. */
static struct mc_span *take_front(struct mc_thread *self, unsigned place, uint64_t size,
                                  uint64_t room, uint64_t align)
{
    struct mc_span *span = take_place(self, place);
    if (!span) return 0;
    uint64_t least = mc_round_up(size, MC_SLICE), wanted = mc_round_up(size + room, MC_SLICE);
    if (span->base & (align - 1) || !extend(span, least)) {
        put_place(self, place, span);
        return 0;
    }
    if (span->size > wanted) cut(self, span, wanted);
    return span;
}

/* -- what is larger than others that wait ---------------------------------------------------- */

/* Bytes of those; 0 for any other. */
static uint64_t big_size(const struct mc_thread *self, unsigned place)
{
    const struct mc_span *span = (const struct mc_span *)mc_load(&self->large[place]);
    uint64_t size = span ? mc_load(&span->size) : 0;
    return size > MC_LARGE_KEPT_MAX ? size : 0;
}

/* Some of them go, from the next place on that is given, the oldest, until `size` more bytes are not too much to
 * keep. Sizes of spans that another thread just takes are guesses. */
static __attribute__((noinline)) void make_way(struct mc_thread *self, uint64_t size)
{
    uint64_t all = size;
    for (unsigned i = 0; i < MC_LARGE_KEPT; i++)
        all += big_size(self, i);
    for (unsigned i = 0, place = self->large_next; all > MC_LARGE_MAX && i <= GROWING; i++) {
        place = i < GROWING ? place_after(place) : REST;
        uint64_t less = big_size(self, place);
        struct mc_span *old = less ? take_place(self, place) : 0;
        if (old) replaced(old);
        all -= less;
    }
}

/* -- spans that wait ------------------------------------------------------------------------ */

/* Not over 1/8 larger than needed, beside the room that is welcome, so that little is lost. */
static int fits(const struct mc_span *span, uint64_t size, uint64_t room, uint64_t align)
{
    uint64_t has = mc_load(&span->size);
    return has >= size && has - size <= MC_SLICE + size / 8 + room &&
           !(mc_load(&span->base) & (align - 1));
}

/* The waiting span of the place if it fits, or NULL. What is seen before it is taken is a guess. */
static struct mc_span *take_fitting(struct mc_thread *self, unsigned place, uint64_t size,
                                    uint64_t room, uint64_t align)
{
    struct mc_span *span = (struct mc_span *)mc_load(&self->large[place]);
    if (!span || !fits(span, size, room, align)) return 0;
    span = take_place(self, place);
    if (!span || likely(fits(span, size, room, align))) return span;
    put_place(self, place, span);
    return 0;
}

/* Of what is larger than others that wait, what will do if it is cut, or takes what is behind it. */
static __attribute__((noinline)) struct mc_span *take_from_big(struct mc_thread *self,
                                                               uint64_t size, uint64_t align)
{
    struct mc_span *span = take_front(self, REST, size, 0, align);
    for (unsigned i = 0, place = self->large_next; i < GROWING && !span; i++) {
        if (big_size(self, place)) span = take_front(self, place, size, 0, align);
        place = place_before(place, GROWING);
    }
    return span;
}

/* A waiting span for the request, or NULL: for what is to grow the front of the rest, for others the one that was
 * freed last of those that fit. */
static struct mc_span *take_waiting(struct mc_thread *self, uint64_t size, uint64_t room,
                                    uint64_t align)
{
    if (size > MC_LARGE_MAX) return 0;
    struct mc_span *span = room ? take_front(self, REST, size, room, align) : 0;
    unsigned last = self->large_next, place = last;
    for (unsigned i = 0; i < MC_LARGE_KEPT && !span; i++) {
        span = take_fitting(self, place, size, room, align);
        if (span && place == last) self->large_next = place_before(last, GROWING);
        place = place_before(place, MC_LARGE_KEPT);
    }
    return !span && !room && size > MC_LARGE_KEPT_MAX ? take_from_big(self, size, align) : span;
}

/* Where an ordinary one waits: where the one taken last did, else in place of the oldest. */
static unsigned place_for(struct mc_thread *self)
{
    self->large_next = place_after(self->large_next);
    return self->large_next;
}

/* What grew in it had most of it, and would have been copied to grow further, since others have what is behind:
 * the next one to grow had better begin where the rest is behind it. */
static int is_blocked(const struct mc_span *span, const struct mc_span *rest)
{
    uint64_t end = span->base + span->size;
    if (span->slot_size <= span->size / 2 || (rest && mc_load(&rest->base) == end)) return 0;
    return mc_page_map_find((void *)end) != 0;
}

/* The rest are what it was cut from, joined to it again as long as that is not too much to keep; what is
 * larger than others that wait, if there is no rest; and what has more room than it. */
static void keep(struct mc_thread *self, struct mc_span *span)
{
    const struct mc_span *rest = (const struct mc_span *)mc_load(&self->large[REST]);
    uint64_t rest_size = rest ? mc_load(&rest->size) : 0;
    int roomy = span->size - span->slot_size >= MC_SLICE && span->size > rest_size;
    if (span->size == MC_GROWING_SIZE && !mc_load(&self->large[GROWING]) &&
        !is_blocked(span, rest)) {
        put_place(self, GROWING, span);
        return;
    }
    int joins = rest && span->size + rest_size <= MC_LARGE_MAX && join_rest(self, span);
    int big = span->size > MC_LARGE_KEPT_MAX;
    if (big) make_way(self, span->size);
    if (joins || roomy || (big && !mc_load(&self->large[REST])))
        put_place(self, REST, span);
    else
        put_place(self, place_for(self), span);
}

__attribute__((noinline)) void mc_large_flush(struct mc_thread *thread)
{
    for (unsigned i = 0; i < MC_LARGE_KEPT; i++) {
        struct mc_span *span = take_place(thread, i); /* pairs with put_place() */
        if (span) unmake(span, MC_SPAN_LARGE);
    }
}

void mc_large_flush_all(void)
{
    for (struct mc_thread *thread = mc_thread_first(); thread; thread = mc_thread_next(thread))
        mc_large_flush(thread);
}

void mc_large_check(const struct mc_thread *thread)
{
    uint64_t big = 0;
    for (unsigned i = 0; i < MC_LARGE_KEPT; i++) {
        const struct mc_span *span = (const struct mc_span *)thread->large[i];
        if (!span) continue;
        mc_assert(span->state == MC_SPAN_WAITING && mc_page_map_find((void *)span->base) == span);
        mc_assert(span->size && span->size % MC_SLICE == 0 && span->slot_size <= span->size);
        big += big_size(thread, i);
    }
    mc_assert(big <= MC_LARGE_MAX && !big_size(thread, GROWING));
    mc_assert(thread->large_next < GROWING);
}

/* -- objects -------------------------------------------------------------------------------- */

static void *reuse(struct mc_thread *self, struct mc_span *span, uint64_t size)
{
    span->slot_size = size;
    span->flags = 0;
    span->tag = 0;
    span->maker = (uint64_t)self;
    mc_store(&span->counts, span->counts + (1ull << MC_COUNTS_SHIFT));
    mc_store_release(&span->state, MC_SPAN_LARGE);
    return (void *)span->base;
}

void *mc_large_again(struct mc_thread *self, size_t size)
{
    unsigned last = self->large_next;
    const struct mc_span *seen = (const struct mc_span *)mc_load(&self->large[last]);
    uint64_t slices_size = mc_round_up(size, MC_SLICE);
    if (!seen || mc_load(&seen->size) != slices_size) return 0;
    struct mc_span *span = take_place(self, last);
    if (unlikely(!span)) return 0;
    if (unlikely(span->size != slices_size)) {
        put_place(self, last, span);
        return 0;
    }
    self->large_next = place_before(last, GROWING);
    return reuse(self, span, mc_round_up(size, MC_PAGE));
}

void *mc_large_alloc(struct mc_thread *self, size_t size, size_t room, size_t align, int *zero)
{
    size = mc_round_up(size ? size : 1, MC_PAGE);
    struct mc_span *waiting = 0;
    if (room != MC_LARGE_MAPPED) waiting = take_waiting(self, size, room, align);
    *zero = 0;
    if (waiting) return reuse(self, waiting, size);
    struct mc_span *span = mc_span_struct_take();
    if (!span) return 0;
    span->slot_size = size;
    int state = mc_large_memory_take(span, room, align, zero);
    if (!state) {
        mc_span_struct_give(span);
        return 0;
    }
    set_up(span);
    span->maker = (uint64_t)self;
    if (mc_page_map_set(span->base, 1, span)) {
        mc_large_memory_give(span->base, span->size, state);
        mc_span_struct_give(span);
        return 0;
    }
    mc_span_count_for(span, state == MC_SPAN_HUGE ? MC_CLASS_HUGE : MC_CLASS_LARGE);
    mc_store(&span->counts, span->counts + MC_COUNTS_ALLOCATION);
    mc_store_release(&span->state, (uint8_t)state);
    return (void *)span->base;
}

/* A small one that grows, of which each thread has a few. */
static void set_growing(struct mc_thread *self, struct mc_span *span, size_t size)
{
    span->flags |= MC_SPAN_GROWING;
    span->requested = size;
    mc_add(&self->growing, 1);
}

/* It has grown up, or is freed. By any thread. */
static void clear_growing(struct mc_span *span)
{
    span->flags &= (uint8_t)~MC_SPAN_GROWING;
    mc_sub(&((struct mc_thread *)span->maker)->growing, 1);
}

void *mc_large_growing(struct mc_thread *self, size_t size)
{
    if (mc_load(&self->growing) >= MC_GROWING_COUNT) return 0;
    struct mc_span *span = take_place(self, GROWING);
    if (likely(span != 0)) {
        reuse(self, span, mc_round_up(size, MC_PAGE));
    } else {
        int zero;
        size_t room = MC_GROWING_SIZE - mc_round_up(size, MC_PAGE);
        void *object = mc_large_alloc(self, size, room, MC_PAGE, &zero);
        if (!object) return 0;
        span = mc_page_map_find(object);
    }
    set_growing(self, span, size);
    return (void *)span->base;
}

void mc_large_free(struct mc_thread *self, struct mc_span *span, void *object)
{
    uint8_t state = mc_load(&span->state);
    uint8_t freed = state == MC_SPAN_LARGE ? MC_SPAN_WAITING : MC_SPAN_UNUSED;
    /* Whoever changes the state frees it; a thread that comes second finds no object here. */
    if (span->base != (uint64_t)object || (state != MC_SPAN_LARGE && state != MC_SPAN_HUGE) ||
        !mc_swap_if(&span->state, &state, freed))
        mc_panic("free()", object, "double free");
    if (span->flags & MC_SPAN_GROWING) clear_growing(span);
    if (state == MC_SPAN_LARGE && has_places(self))
        keep(self, span);
    else
        unmake(span, state);
}

/* The place for it if it is empty, and nothing but a whole span is to be kept there, which joins nothing;
 * else REST. */
static inline unsigned plain_place_for(const struct mc_thread *self, const struct mc_span *span)
{
    const struct mc_span *rest = (const struct mc_span *)mc_load(&self->large[REST]);
    unsigned place = place_after(self->large_next);
    int plain = span->size <= MC_LARGE_KEPT_MAX && span->size - span->slot_size < MC_SLICE &&
                span->size != MC_GROWING_SIZE && self != &mc_thread_none;
    if (unlikely(!plain) || unlikely(mc_load(&self->large[place]) != 0)) return REST;
    return rest && mc_load(&rest->base) == span->base + span->size ? REST : place;
}

/* From live to waiting. By the thread that asked for it without an exchange: another that frees it in the
 * same instant is found out by take_place(). */
static inline int set_waiting(const struct mc_thread *self, struct mc_span *span)
{
    uint8_t state = MC_SPAN_LARGE;
    if (unlikely(span->maker != (uint64_t)self))
        return mc_swap_if(&span->state, &state, MC_SPAN_WAITING);
    if (unlikely(mc_load(&span->state) != MC_SPAN_LARGE)) return 0;
    mc_store_release(&span->state, MC_SPAN_WAITING);
    return 1;
}

int mc_large_free_short(struct mc_thread *self, struct mc_span *span, void *object)
{
    if (span->base != (uint64_t)object || unlikely(span->flags) || unlikely(mc_os_forked()))
        return 0;
    unsigned place = plain_place_for(self, span);
    if (place == REST || unlikely(!set_waiting(self, span))) return 0;
    self->large_next = place;
    mc_store_release(&self->large[place], (uint64_t)span); /* pairs with take_place() */
    return 1;
}

/* -- resizing ------------------------------------------------------------------------------- */

static void *resize_huge(struct mc_span *span, uint64_t wanted)
{
    void *moved;
    uint64_t base = span->base, size = span->size;
    if (mc_page_map_prepare()) return 0;
    /* Before the move: after it, the old place may at once be another thread's. */
    mc_page_map_clear(base, 1);
    if (mc_os_resize((void *)base, size, wanted, &moved)) {
        mc_page_map_set(base, 1, span); /* can't fail: the leaf is there */
        return 0;
    }
    if (mc_page_map_set((uint64_t)moved, 1, span))
        mc_panic("realloc()", moved, "out of memory: two threads moved huge objects at once");
    mc_store(&span->base, (uint64_t)moved);
    mc_large_memory_count(0, (int64_t)(wanted - size));
    span->slot_size = wanted;
    mc_store(&span->size, wanted);
    return moved;
}

/* Makes the span so large, with what is behind it: the rest, free slices, spans that wait. Some more
 * of it is left as room to grow on. */
static int grow(struct mc_thread *self, struct mc_span *span, uint64_t size)
{
    uint64_t roomy = mc_round_up(size + mc_grow_room(size), MC_SLICE);
    if (has_places(self) && join_rest(self, span) && span->size > roomy) cut(self, span, roomy);
    if (span->size >= size || extend(span, roomy) || extend(span, size)) return 1;
    const struct mc_span *behind = mc_page_map_find((void *)(span->base + span->size));
    if (!behind || mc_load(&behind->state) != MC_SPAN_WAITING) return 0;
    mc_large_flush(self);
    return extend(span, size);
}

static void *resize_large(struct mc_thread *self, struct mc_span *span, uint64_t wanted)
{
    uint64_t size = mc_round_up(wanted, MC_SLICE);
    if (size > span->size && !grow(self, span, size)) return 0;
    if (size < span->size && wanted < span->slot_size) {
        uint64_t had = span->size;
        mc_store(&span->size, size);
        mc_arena_give(span->base + size, (had - size) / MC_SLICE);
    }
    span->slot_size = wanted;
    return (void *)span->base;
}

static void *resize(struct mc_thread *self, struct mc_span *span, uint64_t wanted)
{
    if (wanted == span->slot_size) return (void *)span->base;
    if (span->state == MC_SPAN_HUGE) return wanted > MC_GROW_MAPPED ? resize_huge(span, wanted) : 0;
    return wanted <= MC_LARGE_MAX ? resize_large(self, span, wanted) : 0;
}

void *mc_large_resize(struct mc_thread *self, struct mc_span *span, size_t size)
{
    int growing = span->flags & MC_SPAN_GROWING;
    /* To less than it had, it is worth a slot of its size. */
    if (size < (growing ? span->requested : MC_GROW_MIN)) return 0;
    void *object = resize(self, span, mc_round_up(size, MC_PAGE));
    if (!object || !growing) return object;
    span->requested = size;
    if (size >= MC_GROW_MIN) clear_growing(span);
    return object;
}
