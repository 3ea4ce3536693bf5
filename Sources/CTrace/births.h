/* SPDX-License-Identifier: MIT */
/* Births and lives: the time that tags keep, in quarters of a second since births_from_ns, by a
 * clock that costs next to nothing. */
#ifndef MC_BIRTHS_H
#define MC_BIRTHS_H

#include "counters.h"

uint64_t mc_births_now(void);

/* How long the object of this tag has lived, and whether that was short. */
struct mc_life mc_births_life(uint64_t tag);

#endif
