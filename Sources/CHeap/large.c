/* SPDX-License-Identifier: MIT */
/* See large.h. */
#include "large.h"

#include "arena.h"
#include "limits.h"
#include "os.h"
#include "pagemap.h"
#include "print.h"
#include "root.h"
#include "span.h"
#include "structs.h"
#include "thread.h"

static void count_huge(int64_t objects, int64_t bytes)
{
    mc_add(&mc_root()->huge_count, (uint64_t)objects);
    mc_add(&mc_root()->huge_bytes, (uint64_t)bytes);
}

/* A mapping of `size` bytes aligned to `align`; what alignment needs beside it goes back. */
static int map_aligned(uint64_t size, uint64_t align, uint64_t *base)
{
    uint64_t extra = align > MC_PAGE ? align - MC_PAGE : 0;
    void *start;
    if (size + extra < size || mc_os_map(size + extra, &start)) return 0;
    mc_store(base, mc_round_up((uint64_t)start, align));
    uint64_t before = *base - (uint64_t)start;
    if (before) mc_os_release(start, before);
    if (extra > before) mc_os_release((void *)(*base + size), extra - before);
    return 1;
}

static int take_memory(struct mc_span *span, size_t room, size_t align, int *zero)
{
    struct mc_run run;
    uint64_t slices = mc_round_up(span->slot_size + room, MC_SLICE) / MC_SLICE;
    if (span->slot_size <= MC_LARGE_MAX && align <= MC_LARGE_MAX &&
        !mc_arena_take(slices, align < MC_SLICE ? MC_SLICE : align, &run)) {
        mc_store(&span->base, run.base);
        mc_store(&span->size, slices * MC_SLICE);
        *zero = run.zero;
        return MC_SPAN_LARGE;
    }
    /* Also when the arenas are full and no new one can be had. */
    int mapped = map_aligned(span->slot_size, align, &span->base);
    mc_add(mapped ? &mc_root()->mappings_taken : &mc_root()->mappings_refused, 1);
    if (!mapped) return 0;
    mc_store(&span->size, span->slot_size);
    *zero = 1;
    return MC_SPAN_HUGE;
}

static void give_memory(uint64_t base, uint64_t size, int state)
{
    if (state == MC_SPAN_LARGE) {
        mc_arena_give(base, size / MC_SLICE);
    } else {
        mc_os_release((void *)base, size);
        count_huge(-1, -(int64_t)size);
    }
}

/* Not over 1/8 larger than needed, beside the room that is welcome, so that little is lost. */
static int fits(const struct mc_span *span, uint64_t size, uint64_t room, uint64_t align)
{
    uint64_t has = mc_load(&span->size);
    return has >= size && has - size <= MC_SLICE + size / 8 + room &&
           !(mc_load(&span->base) & (align - 1));
}

/* A waiting span that fits, or NULL. The place is exchanged, since another thread may be flushing it;
 * what was seen before that was a guess. */
static struct mc_span *take_waiting(struct mc_thread *self, uint64_t size, uint64_t room,
                                    uint64_t align)
{
    for (unsigned i = 0; i < MC_LARGE_KEPT; i++) {
        struct mc_span *span = (struct mc_span *)mc_load(&self->large[i]);
        if (!span || !fits(span, size, room, align)) continue;
        span = (struct mc_span *)mc_take(&self->large[i]);
        if (!span) continue;
        if (likely(fits(span, size, room, align))) return span;
        mc_store_release(&self->large[i], (uint64_t)span);
    }
    return 0;
}

/* Keeps the span if it is one worth keeping, in place of an older one. Returns the span that has to
 * go, or NULL. */
static struct mc_span *keep(struct mc_thread *self, struct mc_span *span)
{
    if (!self || self == &mc_thread_none || span->size > MC_LARGE_KEPT_MAX) return span;
    unsigned place = self->large_next++ % MC_LARGE_KEPT;
    return (struct mc_span *)__atomic_exchange_n(&self->large[place], (uint64_t)span,
                                                 __ATOMIC_ACQ_REL);
}

static void unmake(struct mc_span *span, int state)
{
    uint64_t base = span->base, size = span->size;
    mc_page_map_clear(base, 1);
    mc_span_struct_give(span);
    give_memory(base, size, state);
}

void mc_large_flush(struct mc_thread *thread)
{
    for (unsigned i = 0; i < MC_LARGE_KEPT; i++) {
        struct mc_span *span = 0;
        if (mc_load(&thread->large[i]))
            span = (struct mc_span *)mc_take(&thread->large[i]); /* pairs with keep() */
        if (span) unmake(span, MC_SPAN_LARGE);
    }
}

void *mc_large_alloc(struct mc_thread *self, size_t size, size_t room, size_t align, int *zero)
{
    size = mc_round_up(size ? size : 1, MC_PAGE);
    struct mc_span *waiting = take_waiting(self, size, room, align);
    if (waiting) {
        waiting->slot_size = size;
        waiting->flags = 0;
        waiting->tag = 0;
        waiting->maker = (uint64_t)self;
        mc_store(&waiting->counts, waiting->counts + (1ull << MC_COUNTS_SHIFT));
        *zero = 0;
        mc_store_release(&waiting->state, MC_SPAN_LARGE);
        return (void *)waiting->base;
    }
    struct mc_span *span = mc_span_struct_take();
    if (!span) return 0;
    span->slot_size = size;
    int state = take_memory(span, room, align, zero);
    if (!state) {
        mc_span_struct_give(span);
        return 0;
    }
    if (state == MC_SPAN_HUGE) count_huge(1, (int64_t)span->size);
    span->local = span->owner = 0;
    span->reciprocal = 0;
    span->free = span->remote = 0;
    mc_store(&span->mark, 0);
    span->slot_count = 1;
    mc_store(&span->fresh, 1);
    span->flags = 0;
    span->untagged_frees = 0;
    span->purged = 0;
    span->tag = 0;
    span->maker = (uint64_t)self;
    span->requested = 0;
    if (mc_page_map_set(span->base, 1, span)) {
        give_memory(span->base, span->size, state);
        mc_span_struct_give(span);
        return 0;
    }
    mc_span_count_for(span, state == MC_SPAN_HUGE ? MC_CLASS_HUGE : MC_CLASS_LARGE);
    mc_store(&span->counts, span->counts + MC_COUNTS_ALLOCATION);
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
    struct mc_span *gone = state == MC_SPAN_LARGE ? keep(self, span) : span;
    if (gone) unmake(gone, state);
}

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
    count_huge(0, (int64_t)(wanted - size));
    span->slot_size = wanted;
    mc_store(&span->size, wanted);
    return moved;
}

/* Takes the slices behind the span; also those of the thread's waiting spans. */
static int take_behind(struct mc_thread *self, const struct mc_span *span, uint64_t slices)
{
    if (!mc_arena_take_at(span->base + span->size, slices)) return 1;
    mc_large_flush(self);
    return !mc_arena_take_at(span->base + span->size, slices);
}

static void *resize_large(struct mc_thread *self, struct mc_span *span, uint64_t wanted)
{
    uint64_t slices = mc_round_up(wanted, MC_SLICE) / MC_SLICE, had = span->size / MC_SLICE;
    if (slices > had && !take_behind(self, span, slices - had)) return 0;
    if (slices > had || wanted < span->slot_size) {
        if (slices < had) mc_arena_give(span->base + slices * MC_SLICE, had - slices);
        mc_store(&span->size, slices * MC_SLICE);
    }
    span->slot_size = wanted;
    return (void *)span->base;
}

void *mc_large_resize(struct mc_thread *self, struct mc_span *span, size_t size)
{
    uint64_t wanted = mc_round_up(size, MC_PAGE);
    if (wanted == span->slot_size) return (void *)span->base;
    if (span->state == MC_SPAN_HUGE) return wanted > MC_LARGE_MAX ? resize_huge(span, wanted) : 0;
    return wanted <= MC_LARGE_MAX ? resize_large(self, span, wanted) : 0;
}
