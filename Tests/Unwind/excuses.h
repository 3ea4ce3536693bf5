/* SPDX-License-Identifier: MIT */
/* Known errors of the oracle, libunwind 1.6.2, each by its exact circumstances. docs/unwinding.md
 * argues each of them. Included by sampler.c only. */
#include "cfi.h"

/* Does unwind information cover the call (or the interrupted instruction) of frame i of ours? */
static int has_information(size_t i)
{
    struct mc_cfi_entry entry;
    return mc_cfi_find(ours[i].pc - 1, &entry) == 0;
}

/* 1: stepping by frame pointer out of code without information libunwind finds the right return
 * address but then takes rsp to be its old value plus 16, whatever the frame's size. */
static int is_low_after_frame_pointer(size_t count, size_t at)
{
    return at > 0 && at < count && at < (size_t)theirs.count && !has_information(at - 1) &&
           theirs.pc[at] == ours[at].pc && theirs.cfa[at] == theirs.cfa[at - 1] + 16;
}

static int excuse(const ucontext_t *context, size_t count, unsigned flags, size_t at)
{
    (void)context;
    if (flags & MC_UNWIND_GUESSED && is_low_after_frame_pointer(count, at)) return 1;
    return 0;
}
