/* SPDX-License-Identifier: MIT */
/* Captures: from a caller to the id of the stack that leads there. */
#ifndef MC_CAPTURE_H
#define MC_CAPTURE_H

#include <stdint.h>

#include "caller.h"

/* The id of the caller's stack, of at most `depth` frames (1 to MC_TRAIL_DEPTH_MAX), marked with
 * `flags` (MC_STACK_); MC_STACK_OVERFLOW if the table has no room. Without a caller, and without
 * `thread`, the calling thread's number: slower, from here, our own frames left out. Not to be called by
 * a signal handler that interrupted a call of the same thread. */
uint32_t mc_capture(unsigned thread, const struct mc_caller *caller, uint32_t depth,
                    uint32_t flags);

#endif
