/* SPDX-License-Identifier: MIT */
/* See large_memory.h. */
#include "large_memory.h"

#include "arena.h"
#include "huge.h"
#include "large.h"
#include "os.h"
#include "pagemap.h"
#include "root.h"
#include "structs.h"

void mc_large_memory_count(int64_t mappings, int64_t bytes)
{
    mc_add(&mc_root()->huge_count, (uint64_t)mappings);
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

int mc_large_memory_take(struct mc_span *span, size_t room, size_t align, int *zero)
{
    struct mc_run run;
    uint64_t slices = mc_round_up(span->slot_size + room, MC_SLICE) / MC_SLICE;
    if (room != MC_LARGE_MAPPED && span->slot_size <= MC_LARGE_MAX && align <= MC_LARGE_MAX &&
        !mc_arena_take_populated(slices, align < MC_SLICE ? MC_SLICE : align, &run)) {
        mc_store(&span->base, run.base);
        mc_store(&span->size, slices * MC_SLICE);
        *zero = run.fresh == run.slices;
        return MC_SPAN_LARGE;
    }
    /* Also when the arenas are full and no new one can be had. The page map knows one span a slice, so no
     * other mapping may begin in the slice where this one does. */
    uint64_t size = span->slot_size;
    if (unlikely(size < MC_SLICE)) size = MC_SLICE, align = align < MC_SLICE ? MC_SLICE : align;
    if (align < mc_huge_mapping_alignment(size)) align = mc_huge_mapping_alignment(size);
    int mapped = map_aligned(size, align, &span->base);
    mc_add(mapped ? &mc_root()->mappings_taken : &mc_root()->mappings_refused, 1);
    if (!mapped) return 0;
    mc_huge_mapped((void *)span->base, size);
    mc_store(&span->size, size);
    mc_large_memory_count(1, (int64_t)span->size);
    *zero = 1;
    return MC_SPAN_HUGE;
}

void mc_large_memory_give(uint64_t base, uint64_t size, int state)
{
    if (state == MC_SPAN_LARGE) {
        mc_arena_give(base, size / MC_SLICE);
        if (size > MC_LARGE_KEPT_MAX) mc_arena_bound_populated();
    } else {
        mc_os_release((void *)base, size);
        mc_large_memory_count(-1, -(int64_t)size);
    }
}

__attribute__((noinline)) void mc_large_unmake(struct mc_span *span, int state)
{
    uint64_t base = span->base, size = span->size;
    mc_page_map_clear(base, 1);
    mc_span_struct_give(span);
    mc_large_memory_give(base, size, state);
}

void mc_large_set_up(struct mc_span *span)
{
    span->limit = span->owner = 0;
    span->reciprocal = 0;
    span->free = 0;
    mc_store(&span->remote, 0); /* seen by waiting.c, as are `flags` */
    mc_store(&span->mark, 0);
    mc_store(&span->slot_count, 1); /* seen by huge.c */
    mc_store(&span->fresh, 1);
    mc_store(&span->flags, 0);
    span->untagged_frees = 0;
    span->purged = 0;
    span->tag = 0;
    span->maker = 0;
    span->requested = 0;
}
