/* SPDX-License-Identifier: MIT */
/* Backtraces by number, for tests of what the region keeps of them. */
#ifndef NUMBERED_H
#define NUMBERED_H

#include "frames.h"
#include "modules.h"
#include "stacks.h"
#include "traced.h"

/* Backtrace `number`: outer frames shared with its neighbours, as in programs. */
static inline uint32_t make_stack(uint64_t number, uint64_t *pcs)
{
    uint32_t depth = 2 + number % 9;
    for (uint32_t i = 0; i < depth; i++)
        pcs[depth - 1 - i] = 0x1000 + 64 * i + (number >> (depth - 1 - i)) * 0x10000;
    return depth;
}

/* One object more in the row of a stack; any number says in which shard. */
static inline uint32_t count_in(unsigned number, uint32_t stack, uint64_t requested,
                                uint64_t usable)
{
    return mc_counters_in(number % mc_area_runs, stack, (struct mc_amount){1, requested, usable});
}

static inline uint32_t intern_frames(const uint64_t *pcs, uint32_t depth, uint32_t flags)
{
    return mc_stacks_intern(pcs, depth, flags, (struct mc_stack_alike){0});
}

static inline uint32_t intern(uint64_t number)
{
    uint64_t pcs[16];
    uint32_t depth = make_stack(number, pcs);
    return intern_frames(pcs, depth, 0);
}

static inline void check_frames(uint32_t id, const uint64_t *pcs, uint32_t depth)
{
    REQUIRE(id >= MC_STACK_FIRST &&
            id < mc_load_acquire(&mc_own_region.areas[MC_AREA_STACKS].count));
    const struct mc_region_stack *stack = mc_area_record(MC_AREA_STACKS, id);
    REQUIRE_EQUAL(stack->depth, depth);
    uint32_t frame = stack->frame;
    for (uint32_t i = 0; i < depth; i++) {
        REQUIRE(mc_frames_is(frame, pcs[i], mc_modules_epoch()));
        frame = mc_frames_outward(frame);
    }
    REQUIRE_EQUAL(frame, 0);
}

static inline void check_stack(uint32_t id, uint64_t number)
{
    uint64_t pcs[16];
    uint32_t depth = make_stack(number, pcs);
    check_frames(id, pcs, depth);
}

#endif
