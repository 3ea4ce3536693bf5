/* SPDX-License-Identifier: MIT */
/* Counters: what came in and went out, per stack. Each stack has a row in every shard; a thread
 * counts in its own shard, where there is one for it, with plain additions, or in shard 0, which
 * is everybody's, with locked ones. Rows are made accessible where a shard first needs them. */
#ifndef MC_COUNTERS_H
#define MC_COUNTERS_H

#include "region.h"

/* Makes the row in shard 0 usable, so that counting can't fail; 0 if there is no room. */
int mc_counters_ensure(uint32_t stack);

void mc_counters_in(unsigned thread, uint32_t stack, uint64_t requested, uint64_t usable);
void mc_counters_out(unsigned thread, uint32_t stack, uint64_t requested, uint64_t usable);

#endif
