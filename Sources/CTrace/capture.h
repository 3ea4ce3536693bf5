/* SPDX-License-Identifier: MIT */
/* Captures: from a caller to the id of the stack that leads there. */
#ifndef MC_CAPTURE_H
#define MC_CAPTURE_H

#include <stdint.h>

#include "caller.h"
#include "region.h"
#include "trail_readings.h"

/* The id of the caller's stack, of at most `depth` frames (1 to MC_TRAIL_DEPTH_MAX), marked with
 * `flags` (MC_STACK_); MC_STACK_OVERFLOW if the table has no room. Without a caller, and without
 * `thread`, the calling thread's number: slower, from here, our own frames left out. Not to be called by
 * a signal handler that interrupted a call of the same thread. */
uint32_t mc_capture(unsigned thread, const struct mc_caller *caller, uint32_t depth,
                    uint32_t flags);

/* What the calling thread recalled is walked to once more: it may have no row in the shard that the thread has
 * now. Not to be called by such a handler either. */
void mc_capture_forget(void);

/* The depth that is asked for, if all processes that share the region are meant; else nobody's. The two
 * words are read as one. */
static inline uint64_t mc_capture_asked(void)
{
    enum { DEPTH = offsetof(struct mc_region, depth), PID = offsetof(struct mc_region, only_pid) };
    _Static_assert(DEPTH % sizeof(uint64_t) == 0 && PID == DEPTH + sizeof(uint32_t), "a word");
    _Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the depth is its low half");
    return mc_load((const uint64_t *)(const void *)&mc_own_region.depth);
}

/* The same, without flags, where the thread's walks have led to that stack of late: the words that one
 * read are looked at. 0: ask mc_capture(), if this process is meant. */
static inline __attribute__((always_inline)) uint32_t
mc_capture_again(const struct mc_caller *caller, uint64_t depth)
{
    struct mc_trail *trail = mc_trail_own;
    if (unlikely(!trail) || unlikely(trail->depth != depth)) return 0;
    uint32_t stack = mc_trail_recall(trail, caller);
    return likely(stack) && likely(stack >= mc_load(&mc_own_region.floor)) ? stack : 0;
}

#endif
