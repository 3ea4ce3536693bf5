/* SPDX-License-Identifier: MIT */
/* The exact walk: every register, every kind of rule, one frame after the other through the full
 * interpreter. Serves what a compact rule can't say, and every walk while modules are being
 * unloaded. Also the frame pointer guess, which the fast walk shares. Private to the unwinder. */
#ifndef MC_UNWIND_EXACT_H
#define MC_UNWIND_EXACT_H

#include "unwind.h"
#include "unwind_stack.h"

/* As mc_unwind. `running`: see mc_stack_find. */
size_t mc_unwind_exact(const struct mc_unwind_start *start, int running,
                       struct mc_frame_site *frames, size_t max, unsigned *flags);

/* Code without unwind information: takes *bp for a frame pointer, [bp] the caller's, [bp + 8] the
 * return address. Where an instruction was interrupted (*pc is one more than its address) that by
 * itself tells where the return address is, and a call is in front of that, it comes first. Returns
 * 0 and the caller's *sp, *bp, *pc when those make sense, else the flags a walk ends with. */
unsigned mc_unwind_guess(struct mc_stack *stack, int interrupted, uintptr_t *sp, uintptr_t *bp,
                         uintptr_t *pc);

#endif
