/* SPDX-License-Identifier: MIT */
/* See large_kept.h. */
#include "large_kept.h"

#include "arena.h"
#include "large_memory.h"
#include "pagemap.h"
#include "span.h"
#include "structs.h"

void mc_kept_put_place(struct mc_thread *self, unsigned place, struct mc_span *span)
{
    /* Others only ever empty it. Either pairs with mc_kept_take_place(). */
    if (likely(!mc_load(&self->large[place]))) {
        mc_store_release(&self->large[place], (uint64_t)span);
        return;
    }
    struct mc_span *old = (struct mc_span *)__atomic_exchange_n(&self->large[place], (uint64_t)span,
                                                                __ATOMIC_ACQ_REL);
    if (old) mc_large_unmake(old, MC_SPAN_LARGE);
}

void mc_kept_cut(struct mc_thread *self, struct mc_span *span, uint64_t size)
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
    mc_large_set_up(rest);
    mc_span_count_for(rest, MC_CLASS_LARGE);
    mc_store(&rest->used, 1); /* it is so while a span waits, too */
    mc_store_release(&rest->state, MC_SPAN_WAITING);
    mc_kept_put_place(self, MC_KEPT_REST, rest);
}

/* The rest, which is right behind the span, becomes part of it. */
static void join(struct mc_span *span, struct mc_span *rest)
{
    uint64_t more = rest->size;
    mc_page_map_clear(rest->base, 1);
    mc_span_struct_give(rest);
    mc_store(&span->size, span->size + more);
}

int mc_kept_join_rest(struct mc_thread *self, struct mc_span *span)
{
    const struct mc_span *seen = (const struct mc_span *)mc_load(&self->large[MC_KEPT_REST]);
    if (!seen || mc_load(&seen->base) != span->base + span->size) return 0;
    struct mc_span *rest = mc_kept_take_place(self, MC_KEPT_REST);
    if (!rest) return 0;
    if (unlikely(rest->base != span->base + span->size)) {
        mc_kept_put_place(self, MC_KEPT_REST, rest);
        return 0;
    }
    join(span, rest);
    return 1;
}

int mc_kept_extend(struct mc_span *span, uint64_t size)
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
    struct mc_span *span = mc_kept_take_place(self, place);
    if (!span) return 0;
    uint64_t least = mc_round_up(size, MC_SLICE), wanted = mc_round_up(size + room, MC_SLICE);
    if (span->base & (align - 1) || !mc_kept_extend(span, least)) {
        mc_kept_put_place(self, place, span);
        return 0;
    }
    if (span->size > wanted) mc_kept_cut(self, span, wanted);
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

/* Some of them go, from the place on that is given next, the oldest's, and at last the rest, until `size` more
 * bytes are not too much to keep. Sizes of spans that another thread just takes are guesses. */
static __attribute__((noinline)) void make_way(struct mc_thread *self, uint64_t size)
{
    uint64_t all = size;
    for (unsigned i = 0; i < MC_LARGE_KEPT; i++)
        all += big_size(self, i);
    for (unsigned i = 0, place = self->large_next; all > MC_LARGE_MAX && i <= MC_KEPT_GROWING;
         i++) {
        place = i < MC_KEPT_GROWING ? mc_kept_place_after(place) : MC_KEPT_REST;
        uint64_t less = big_size(self, place);
        struct mc_span *old = less ? mc_kept_take_place(self, place) : 0;
        if (old) mc_large_unmake(old, MC_SPAN_LARGE);
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
    span = mc_kept_take_place(self, place);
    if (!span || likely(fits(span, size, room, align))) return span;
    mc_kept_put_place(self, place, span);
    return 0;
}

/* Of what is larger than others that wait, what will do if it is cut, or takes what is behind it. */
static __attribute__((noinline)) struct mc_span *take_from_big(struct mc_thread *self,
                                                               uint64_t size, uint64_t align)
{
    struct mc_span *span = take_front(self, MC_KEPT_REST, size, 0, align);
    for (unsigned i = 0, place = self->large_next; i < MC_KEPT_GROWING && !span; i++) {
        if (big_size(self, place)) span = take_front(self, place, size, 0, align);
        place = mc_kept_place_before(place, MC_KEPT_GROWING);
    }
    return span;
}

/* A waiting span for the request, or NULL: for what is to grow the front of the rest, for others the one that was
 * freed last of those that fit. */
struct mc_span *mc_kept_take(struct mc_thread *self, uint64_t size, uint64_t room, uint64_t align)
{
    if (size > MC_LARGE_MAX) return 0;
    struct mc_span *span = room ? take_front(self, MC_KEPT_REST, size, room, align) : 0;
    unsigned last = self->large_next, place = last;
    for (unsigned i = 0; i < MC_LARGE_KEPT && !span; i++) {
        span = take_fitting(self, place, size, room, align);
        if (span && place == last) self->large_next = mc_kept_place_before(last, MC_KEPT_GROWING);
        place = mc_kept_place_before(place, MC_LARGE_KEPT);
    }
    return !span && !room && size > MC_LARGE_KEPT_MAX ? take_from_big(self, size, align) : span;
}

/* Where an ordinary one waits: where the one taken last did, else in place of the oldest. */
static unsigned place_for(struct mc_thread *self)
{
    self->large_next = mc_kept_place_after(self->large_next);
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
void mc_kept_put(struct mc_thread *self, struct mc_span *span)
{
    const struct mc_span *rest = (const struct mc_span *)mc_load(&self->large[MC_KEPT_REST]);
    uint64_t rest_size = rest ? mc_load(&rest->size) : 0;
    int roomy = span->size - span->slot_size >= MC_SLICE && span->size > rest_size;
    if (span->size == MC_GROWING_SIZE && !mc_load(&self->large[MC_KEPT_GROWING]) &&
        !is_blocked(span, rest)) {
        mc_kept_put_place(self, MC_KEPT_GROWING, span);
        return;
    }
    int joins = rest && span->size + rest_size <= MC_LARGE_MAX && mc_kept_join_rest(self, span);
    int big = span->size > MC_LARGE_KEPT_MAX;
    if (big) make_way(self, span->size);
    if (joins || roomy || (big && !mc_load(&self->large[MC_KEPT_REST])))
        mc_kept_put_place(self, MC_KEPT_REST, span);
    else
        mc_kept_put_place(self, place_for(self), span);
}

__attribute__((noinline)) void mc_kept_flush(struct mc_thread *thread)
{
    for (unsigned i = 0; i < MC_LARGE_KEPT; i++) {
        struct mc_span *span = mc_kept_take_place(thread, i); /* pairs with mc_kept_put_place() */
        if (span) mc_large_unmake(span, MC_SPAN_LARGE);
    }
}

void mc_kept_flush_all(void)
{
    for (struct mc_thread *thread = mc_thread_first(); thread; thread = mc_thread_next(thread))
        mc_kept_flush(thread);
}

void mc_kept_check(const struct mc_thread *thread)
{
    uint64_t big = 0, biggest = 0;
    for (unsigned i = 0; i < MC_LARGE_KEPT; i++) {
        const struct mc_span *span = (const struct mc_span *)thread->large[i];
        if (!span) continue;
        mc_assert(span->state == MC_SPAN_WAITING && mc_page_map_find((void *)span->base) == span);
        mc_assert(span->size && span->size % MC_SLICE == 0 && span->slot_size <= span->size);
        uint64_t size = big_size(thread, i);
        big += size;
        if (size > biggest) biggest = size;
    }
    mc_assert(big <= MC_LARGE_MAX || big == biggest);
    mc_assert(biggest <= MC_LARGE_MAX + MC_GROW_ROOM_MAX && !big_size(thread, MC_KEPT_GROWING));
    mc_assert(thread->large_next < MC_KEPT_GROWING);
}
