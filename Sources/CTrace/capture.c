/* SPDX-License-Identifier: MIT */
/* See capture.h. The short way is along the thread's trail, from the caller; where that is no help,
 * the walk is made from here, with all registers known, and our own frames are left out. */
#include "capture.h"

#include "counters.h"
#include "region.h"
#include "shard.h"
#include "stacks.h"
#include "trail.h"
#include "unwind.h"

enum { OWN_FRAMES = 8 };

/* Not inlined, so that its frame is there only while it is needed: a thread may have 16 KiB of stack
 * in all. */
__attribute__((noinline)) static uint32_t capture_from_here(uint32_t wanted, uint32_t flags)
{
    struct mc_unwind_start here;
    struct mc_frame_site frames[wanted + OWN_FRAMES];
    unsigned how;
    MC_UNWIND_CAPTURE(&here);
    size_t count = mc_unwind(&here, frames, wanted + OWN_FRAMES, &how), first = 0;
    while (first < count && mc_region_is_own(frames[first].pc - 1))
        first++;
    size_t depth = count - first;
    if (depth > wanted || how & MC_UNWIND_CUT)
        flags |= MC_STACK_CUT;
    else if (how & MC_UNWIND_STOPPED)
        flags |= MC_STACK_STOPPED;
    if (depth > wanted) depth = wanted;
    uint64_t *pcs = (uint64_t *)frames; /* each pc goes where its frame, or one before it, was */
    for (size_t i = 0; i < depth; i++)
        pcs[i] = frames[first + i].pc;
    return mc_stacks_intern(pcs, (uint32_t)depth, flags, (struct mc_stack_alike){0});
}

/* A stack that is in no index, so not seen before, or not for long. What was not walked it shares with
 * the one before. */
__attribute__((noinline)) static uint32_t add(const struct mc_trail *trail,
                                              const struct mc_trail_path *path, uint32_t flags)
{
    uint64_t pcs[path->depth];
    struct mc_stack_alike alike = {0};
    if (trail->stack >= MC_STACK_FIRST && !((flags | trail->stack_flags) & MC_STACK_CUT))
        alike = (struct mc_stack_alike){trail->stack, path->landed};
    for (uint32_t i = 0; i < path->depth; i++)
        pcs[i] = path->first[i].pc;
    return mc_stacks_add(path->hash, pcs, path->depth, flags, alike);
}

/* The trail remembers the id of its frames' stack, unless that was reset since. */
static int remembers(const struct mc_trail *trail, const struct mc_trail_path *path, uint32_t flags)
{
    return path->same && trail->stack >= MC_STACK_FIRST && trail->stack_flags == flags &&
           trail->stack >= mc_load(&mc_own_region.floor);
}

/* The stack of a path that is the trail now. */
static uint32_t stack_of(struct mc_trail *trail, const struct mc_trail_path *path, uint32_t flags)
{
    if (remembers(trail, path, flags)) return trail->stack;
    uint32_t stack = mc_stacks_find(path->hash, path->depth, flags, trail->stack);
    if (unlikely(!stack)) stack = add(trail, path, flags);
    trail->stack = stack;
    trail->stack_flags = flags;
    return stack;
}

/* Stacks first met one after the other are often met so again: what mc_stacks_find() and the
 * counters will want of the next one comes while the walk goes on. */
static void expect_next(uint32_t stack)
{
    __builtin_prefetch(mc_area_record(MC_AREA_STACKS, stack + 1));
    mc_shard_expect(stack + 1);
}

void mc_capture_forget(void)
{
    if (mc_trail_own) mc_trail_forget_readings(mc_trail_own);
}

uint32_t mc_capture(unsigned thread, const struct mc_caller *caller, uint32_t depth, uint32_t flags)
{
    struct mc_trail_path path;
    int plain = !flags;
    struct mc_trail *trail = caller ? mc_trail_take(thread, depth) : 0;
    if (unlikely(!trail)) return capture_from_here(depth, flags);
    expect_next(trail->stack);
    if (unlikely(mc_trail_walk(trail, caller, &path))) return capture_from_here(depth, flags);
    if (unlikely(mc_region_is_own(path.first[0].pc - 1))) {
        trail->stack = 0;
        return capture_from_here(depth, flags);
    }
    if (path.flags & MC_UNWIND_CUT) flags |= MC_STACK_CUT;
    /* Tables that are far off are asked for together, before any of them is waited for. */
    mc_stacks_expect(path.hash, path.depth, flags);
    uint64_t key;
    int noted = plain && mc_trail_note_reading(trail, caller, &key);
    uint32_t stack = stack_of(trail, &path, flags);
    mc_shard_expect(stack);
    /* What is recalled is counted without asking whether there is a row: see capture.h. */
    if (noted && stack >= MC_STACK_FIRST && mc_counters_make(mc_shard_own(), stack))
        mc_trail_note_stack(trail, key, stack);
    return stack;
}
