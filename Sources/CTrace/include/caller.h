/* SPDX-License-Identifier: MIT */
/* Callers: where a walk that leaves our own frames out begins.
 *
 * An entry point that may be traced ends in a jump to a function defined by MC_CALLER_ENTRY, which
 * sees the registers as its caller left them, and hands them on. What is behind it may have as many
 * frames as it likes: none of them is walked. Where a compiler makes a call of the jump, the caller
 * is one of our own functions; whoever walks notices by its address. */
#ifndef MC_CALLER_H
#define MC_CALLER_H

#include <stdint.h>

/* The registers at a function's entry: `sp` above its return address, and the caller's bp. */
struct mc_caller {
    uintptr_t sp;
    uintptr_t bp;
};

#if defined(__x86_64__)
#    include "caller_x86_64.h"
#else
#    error "no callers for this architecture yet: add caller_ARCH.h"
#endif

#endif
