/* SPDX-License-Identifier: MIT */
/* See huge.h. */
#include "huge.h"

#include "heap.h"
#include "os.h"
#include "structs.h"

void mc_heap_huge_pages(enum mc_huge_pages way)
{
    mc_root()->huge_pages = way;
}

/* Arenas from this size on may have them. */
static uint64_t least_arena(void)
{
    if (likely(mc_huge_is(MC_HUGE_DENSE))) return MC_HUGE_ARENA;
    return mc_huge_is(MC_HUGE_ALWAYS) ? MC_HUGE_PAGE : UINT64_MAX;
}

uint64_t mc_huge_arena_size(uint64_t size)
{
    if (unlikely(mc_huge_is(MC_HUGE_ALWAYS)) && size < MC_HUGE_ARENA_FIRST)
        size = MC_HUGE_ARENA_FIRST;
    return size >= least_arena() ? mc_round_up(size, MC_HUGE_PAGE) : size;
}

__attribute__((noinline)) uint64_t mc_huge_alignment(uint64_t size)
{
    return size >= least_arena() && size % MC_HUGE_PAGE == 0 ? MC_HUGE_PAGE : MC_SLICE;
}

__attribute__((noinline)) void mc_huge_arena_made(void *start, uint64_t size, uint64_t wanted)
{
    /* A kernel that gives huge pages to whoever can have them would populate a whole piece; but what a large object
     * is about to have may be of them. */
    int small =
        size >= MC_COMMIT_PIECES * MC_HUGE_PAGE && size < MC_HUGE_ARENA && wanted < MC_HUGE_PAGE;
    if (small || !mc_huge_is(MC_HUGE_DENSE))
        mc_os_huge_pages(start, size + mc_huge_alignment(size), mc_huge_is(MC_HUGE_ALWAYS));
}

/* 1 if a huge page for the next spans would bring little that nobody asked for: of a sample of spans nearly all
 * is carved. */
static int spans_are_dense(void)
{
    uint64_t count = mc_load_acquire(&mc_root()->span_count), size = 0, carved = 0;
    for (uint64_t k = 0; k < MC_HUGE_SAMPLE && count >= MC_HUGE_SAMPLE; k++) {
        const struct mc_span *span = mc_span_struct_at(count * k / MC_HUGE_SAMPLE);
        uint8_t state = mc_load_acquire(&span->state);
        /* Of large ones nobody knows how much is touched. */
        if (state == MC_SPAN_LARGE || state == MC_SPAN_WAITING) size += mc_load(&span->size);
        if (state != MC_SPAN_CLASS) continue;
        uint64_t slot_size = mc_class_slot_size(mc_load(&span->class_index));
        size += mc_load(&span->slot_count) * slot_size;
        carved += mc_load(&span->fresh) * slot_size;
    }
    return size && (size - carved) * MC_HUGE_SPARSE < size && carved <= size;
}

/* By itself, since small processes never come here. */
__attribute__((noinline)) void mc_huge_committed(void *start, uint64_t size)
{
    if (mc_huge_is(MC_HUGE_DENSE) && spans_are_dense()) mc_os_huge_pages(start, size, 1);
}

uint64_t mc_huge_mapping_alignment(uint64_t size)
{
    return mc_huge_is(MC_HUGE_ALWAYS) && size >= MC_HUGE_PAGE ? MC_HUGE_PAGE : MC_PAGE;
}

__attribute__((noinline)) void mc_huge_mapped(void *start, uint64_t size)
{
    if (!mc_huge_is(MC_HUGE_DENSE) && size >= MC_HUGE_PAGE)
        mc_os_huge_pages(start, size, mc_huge_is(MC_HUGE_ALWAYS));
}
