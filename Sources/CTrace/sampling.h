/* SPDX-License-Identifier: MIT */
/* Sampling: which objects are accounted when not all are, and for how many each of them stands.
 *
 * Points are strewn over the bytes that are asked for, 2^n apart on the average, and independent of
 * each other (a Poisson process); an object is sampled if one lies in it. So
 *
 *     p(s) = 1 - exp(-s / 2^n)     is the chance of an object of s bytes, and
 *     w(s) = 1 / p(s)              what it stands for: sums of w over the sampled are unbiased.
 *
 * A thread keeps the bytes left to its next point, and takes every object's from them: one that leaves
 * nothing is sampled. How far a point is has no memory: it may be drawn anew at any time, as when the
 * interval changes, or where an object that nobody traced took the last ones. When all are accounted,
 * nothing is ever left.
 *
 * A signal handler that comes after a subtraction that left nothing draws anew for its own object; then
 * the one that was interrupted finds enough left, and is passed over: one of the two is sampled. */
#ifndef MC_SAMPLING_H
#define MC_SAMPLING_H

#include <stddef.h>

#include "bits.h"
#include "trace.h"

/* For one object, what the rows of its stack get: counters in their units, and variances. */
struct mc_weighed {
    uint64_t count; /* MC_SAMPLE_UNIT */
    uint64_t requested;
    uint64_t usable;
    uint64_t count_square;
    uint64_t bytes_square; /* over 2^n */
};

/* n as the control page has it; 0, all are accounted, also for a number that makes no sense. */
uint32_t mc_sampling_interval(void);

/* 1 if some object may have been sampled, by this process or one it was forked from. */
extern uint8_t mc_sampling_used;

/* Requires 0 < n. */
struct mc_weighed mc_sampling_weigh(uint32_t n, uint64_t requested, uint64_t usable);

/* Bytes to the next point: a draw that advances *random. */
uint64_t mc_sampling_draw(uint32_t n, uint64_t *random);

#endif
