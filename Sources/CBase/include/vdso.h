/* SPDX-License-Identifier: MIT */
/* clock_gettime(3) that no program can have replaced; no system call for the usual clocks, and for
 * none where it is not allowed (calls.h): time goes in steps of a few milliseconds then. */
#ifndef MC_VDSO_H
#define MC_VDSO_H

#include <time.h>

void mc_clock(clockid_t clock, struct timespec *now);

/* The kernel's code for it, for those to whom a microsecond matters: NULL until mc_clock() was
 * called, and where there is none. Coarse clocks are in memory, so those it may always be asked. */
extern int (*mc_clock_code)(clockid_t clock, struct timespec *now); /* [shared] */

#endif
