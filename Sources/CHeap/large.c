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
    if (size + extra < size || mc_os_map(size + extra, &start))
        return 0;
    *base = mc_round_up((uint64_t)start, align);
    uint64_t before = *base - (uint64_t)start;
    if (before)
        mc_os_release(start, before);
    if (extra > before)
        mc_os_release((void *)(*base + size), extra - before);
    return 1;
}

static int take_memory(struct mc_span *span, size_t align, int *zero)
{
    struct mc_run run;
    uint64_t slices = mc_round_up(span->slot_size, MC_SLICE) / MC_SLICE;
    if (span->slot_size <= MC_LARGE_MAX && align <= MC_LARGE_MAX
        && !mc_arena_take(slices, align < MC_SLICE ? MC_SLICE : align, &run)) {
        span->base = run.base;
        span->size = slices * MC_SLICE;
        *zero = run.zero;
        return MC_SPAN_LARGE;
    }
    /* Also when the arenas are full and no new one can be had. */
    if (!map_aligned(span->slot_size, align, &span->base))
        return 0;
    span->size = span->slot_size;
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

void *mc_large_alloc(size_t size, size_t align, int *zero)
{
    struct mc_span *span = mc_span_struct_take();
    if (!span)
        return 0;
    span->slot_size = mc_round_up(size ? size : 1, MC_PAGE);
    int state = take_memory(span, align, zero);
    if (!state) {
        mc_span_struct_give(span);
        return 0;
    }
    if (state == MC_SPAN_HUGE)
        count_huge(1, (int64_t)span->size);
    span->local = span->owner = 0;
    span->reciprocal = 0;
    span->free = span->mark = span->remote = 0;
    span->used = span->fresh = span->slot_count = 1;
    span->flags = 0;
    span->zero = (uint8_t)*zero;
    span->tag = 0;
    span->requested = 0;
    if (mc_page_map_set(span->base, 1, span)) {
        give_memory(span->base, span->size, state);
        mc_span_struct_give(span);
        return 0;
    }
    mc_store_release(&span->state, (uint8_t)state);
    return (void *)span->base;
}

void mc_large_free(struct mc_span *span, void *object)
{
    uint8_t state = mc_load(&span->state);
    uint64_t base = span->base, size = span->size;
    /* Whoever makes it unused frees it; a thread that comes second finds no object here. */
    if (base != (uint64_t)object || (state != MC_SPAN_LARGE && state != MC_SPAN_HUGE)
        || !mc_swap_if(&span->state, &state, MC_SPAN_UNUSED))
        mc_panic("free()", object, "double free");
    mc_page_map_clear(base, 1);
    mc_span_struct_give(span);
    give_memory(base, size, state);
}

static void *resize_huge(struct mc_span *span, uint64_t wanted)
{
    void *moved;
    uint64_t base = span->base, size = span->size;
    if (mc_page_map_prepare() || mc_os_resize((void *)base, size, wanted, &moved))
        return 0;
    if ((uint64_t)moved != base) {
        mc_page_map_clear(base, 1);
        if (mc_page_map_set((uint64_t)moved, 1, span))
            mc_panic("realloc()", moved, "out of memory: two threads moved huge objects at once");
        span->base = (uint64_t)moved;
    }
    count_huge(0, (int64_t)(wanted - size));
    span->slot_size = span->size = wanted;
    return moved;
}

static void *resize_large(struct mc_span *span, uint64_t wanted)
{
    uint64_t slices = mc_round_up(wanted, MC_SLICE) / MC_SLICE, had = span->size / MC_SLICE;
    if (slices > had && mc_arena_take_at(span->base + span->size, slices - had))
        return 0;
    if (slices < had)
        mc_arena_give(span->base + slices * MC_SLICE, had - slices);
    span->size = slices * MC_SLICE;
    span->slot_size = wanted;
    return (void *)span->base;
}

void *mc_large_resize(struct mc_span *span, size_t size)
{
    uint64_t wanted = mc_round_up(size, MC_PAGE);
    if (wanted == span->slot_size)
        return (void *)span->base;
    if (span->state == MC_SPAN_HUGE)
        return wanted > MC_LARGE_MAX ? resize_huge(span, wanted) : 0;
    return wanted <= MC_LARGE_MAX ? resize_large(span, wanted) : 0;
}
