/* SPDX-License-Identifier: MIT */
/* What the sampler, inside the program under test, tells the launcher: a file both map. */
#ifndef SAMPLER_H
#define SAMPLER_H

#include <stdint.h>

struct tally {
    uint64_t stacks;      /* compared */
    uint64_t frames;      /* compared, one by one */
    uint64_t differences; /* stacks with an unexplained difference */
    uint64_t unlike;      /* stacks where our fast and our exact walk differ */
    uint64_t excused;     /* stacks whose difference is one of libunwind's known errors */
    uint64_t guessed;     /* stacks compared only up to code without unwind information */
    uint64_t complete;    /* ended at the outermost frame */
    uint64_t cut;
    uint64_t stopped;
    uint64_t why[3];  /* stopped for want of information, bad information, bad stack */
    uint64_t exact;   /* needed the exact walk */
    uint64_t signals; /* with a signal frame inside */
    uint64_t busy;    /* samples dropped because another thread was sampling */
    uint64_t mutated; /* walks from damaged registers, which must not fault */
    uint64_t deepest;
    uint64_t calls;     /* of malloc and its kin, all of which walk along their thread's trail */
    uint64_t along;     /* of which so many did, */
    uint64_t landed;    /* landed on frames of the call before, */
    uint64_t recalled;  /* were walks of before again, */
    uint64_t strayed;   /* and found another stack than the fast walk */
    uint64_t excuse[8]; /* by the numbers of excuses.h */
};

#endif
