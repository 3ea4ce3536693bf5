/* SPDX-License-Identifier: MIT */
/* See large.h. */
#include "large.h"

#include "arena.h"
#include "growing.h"
#include "large_kept.h"
#include "large_memory.h"
#include "limits.h"
#include "os.h"
#include "pagemap.h"
#include "print.h"
#include "span.h"
#include "structs.h"

/* -- objects -------------------------------------------------------------------------------- */

void *mc_large_reuse(struct mc_thread *self, struct mc_span *span, size_t size)
{
    span->slot_size = mc_round_up(size, MC_PAGE);
    span->flags = 0;
    span->tag = 0;
    span->maker = (uint64_t)self;
    mc_span_count_taken(span);
    mc_store_release(&span->state, MC_SPAN_LARGE);
    return (void *)span->base;
}

void *mc_large_again(struct mc_thread *self, size_t size)
{
    unsigned last = self->large_next;
    const struct mc_span *seen = (const struct mc_span *)mc_load(&self->large[last]);
    uint64_t slices_size = mc_round_up(size, MC_SLICE);
    if (!seen || mc_load(&seen->size) != slices_size) return 0;
    struct mc_span *span = mc_kept_take_place(self, last);
    if (unlikely(!span)) return 0;
    if (unlikely(span->size != slices_size)) {
        mc_kept_put_place(self, last, span);
        return 0;
    }
    self->large_next = mc_kept_place_before(last, MC_KEPT_GROWING);
    return mc_large_reuse(self, span, size);
}

void *mc_large_alloc(struct mc_thread *self, size_t size, size_t room, size_t align, int *zero)
{
    size = mc_round_up(size ? size : 1, MC_PAGE);
    struct mc_span *waiting = 0;
    if (room != MC_LARGE_MAPPED) waiting = mc_kept_take(self, size, room, align);
    *zero = 0;
    if (waiting) return mc_large_reuse(self, waiting, size);
    struct mc_span *span = mc_span_struct_take();
    if (!span) return 0;
    mc_store(&span->slot_size, size); /* huge.c may still look */
    int state = mc_large_memory_take(span, room, align, zero);
    if (!state) {
        mc_span_struct_give(span);
        return 0;
    }
    mc_large_set_up(span);
    span->maker = (uint64_t)self;
    if (mc_page_map_set(span->base, 1, span)) {
        mc_large_memory_give(span->base, span->size, state);
        mc_span_struct_give(span);
        return 0;
    }
    mc_span_count_for(span, state == MC_SPAN_HUGE ? MC_CLASS_HUGE : MC_CLASS_LARGE);
    mc_store(&span->used, 1);
    mc_span_count_taken(span);
    mc_store_release(&span->state, (uint8_t)state);
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
    if (span->flags & MC_SPAN_GROWING) mc_growing_end(self, span);
    if (state == MC_SPAN_LARGE && mc_kept_has_places(self))
        mc_kept_put(self, span);
    else
        mc_large_unmake(span, state);
}

/* The place for it if it is empty, and nothing but a whole span is to be kept there, which joins nothing;
 * else MC_KEPT_REST. */
static inline unsigned plain_place_for(const struct mc_thread *self, const struct mc_span *span)
{
    const struct mc_span *rest = (const struct mc_span *)mc_load(&self->large[MC_KEPT_REST]);
    unsigned place = mc_kept_place_after(self->large_next);
    int plain = span->size <= MC_LARGE_KEPT_MAX && span->size - span->slot_size < MC_SLICE &&
                span->size != MC_GROWING_SIZE && self != &mc_thread_none;
    if (unlikely(!plain) || unlikely(mc_load(&self->large[place]) != 0)) return MC_KEPT_REST;
    return rest && mc_load(&rest->base) == span->base + span->size ? MC_KEPT_REST : place;
}

/* From live to waiting. By the thread that asked for it without an exchange: another that frees it in the
 * same instant is found out by mc_kept_take_place(). */
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
    if (place == MC_KEPT_REST || unlikely(!set_waiting(self, span))) return 0;
    self->large_next = place;
    mc_store_release(&self->large[place], (uint64_t)span); /* pairs with mc_kept_take_place() */
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
    if (mc_kept_has_places(self) && mc_kept_join_rest(self, span) && span->size > roomy)
        mc_kept_cut(self, span, roomy);
    if (span->size >= size || mc_kept_extend(span, roomy) || mc_kept_extend(span, size)) return 1;
    const struct mc_span *behind = mc_page_map_find((void *)(span->base + span->size));
    if (!behind || mc_load(&behind->state) != MC_SPAN_WAITING) return 0;
    mc_kept_flush(self);
    return mc_kept_extend(span, size);
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
    mc_growing_go_on(self, span, size);
    if (size >= MC_GROW_MIN) mc_growing_end(self, span);
    return object;
}
