/* SPDX-License-Identifier: MIT */
/* clock_gettime(3) that no program can have replaced; no system call for the usual clocks. */
#ifndef MC_VDSO_H
#define MC_VDSO_H

#include <time.h>

void mc_clock(clockid_t clock, struct timespec *now);

#endif
