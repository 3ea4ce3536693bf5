/* SPDX-License-Identifier: MIT */
/* Mappings: what the program mapped with mmap(2) and has not unmapped, by address, each with the
 * tag of the stack that asked for it. In private memory: memctl sees their rows only.
 *
 * A sorted array, since unmapping goes by address ranges, which may cut a mapping or hit several. It
 * is changed under a lock together with the mappings themselves, so that a range that another
 * thread is given anew is known after what was there before. The lock is a futex: a holder may be in
 * a system call. Nobody unwinds or allocates with it.
 *
 * A signal handler that unmaps while its own thread has the lock must not wait: what it unmapped is
 * put on a list that the holder sees to before it unlocks. What a handler maps goes untraced then.
 *
 * In a forked child the lock may be held by a thread that is not there, and the array be in the
 * middle of a change: then the child knows of no mappings. */
#ifndef MC_MAPPINGS_H
#define MC_MAPPINGS_H

#include "region.h"

/* In trace.h, for those who map:
 *     mc_mappings_insert, mc_mappings_remove   with the lock; ranges of whole pages
 *     mc_mappings_after_fork   in a forked child, alone, after its region was made: counts what it
 *                              inherited, or forgets it */

/* Asserts that they are in order and do not overlap. */
void mc_mappings_check(void);

#endif
