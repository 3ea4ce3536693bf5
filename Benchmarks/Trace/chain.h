/* SPDX-License-Identifier: MIT */
/* A chain of 64 functions, each calling the next from one of two places.
 *
 * Every function has its own frame size, its own saved registers and two call sites, and goes on
 * working after the call, so no call is a tail call and every frame of a backtrace has an address
 * of its own, as in a real program: a recursion on one function would show an unwinder one address
 * again and again. Bit k of `path` selects the call site in level k counted from the leaf, so two
 * paths give two stacks and their common outer frames are those of the equal high bits.
 *
 * mc_chain_run() puts `depth` frames of the chain between its caller and the leaf. */
#ifndef MC_TRACE_CHAIN_H
#define MC_TRACE_CHAIN_H

#include <stdint.h>

enum { MC_CHAIN_DEPTH_MAX = 64 };

typedef uint64_t mc_chain_leaf(void *context);

struct mc_chain {
    uint64_t path;
    mc_chain_leaf *leaf;
    void *context;
};

/* Requires 1 <= depth <= MC_CHAIN_DEPTH_MAX. */
uint64_t mc_chain_run(unsigned depth, const struct mc_chain *chain);

#endif
