/* SPDX-License-Identifier: MIT */
/* Lending: a request is served by a slot of a coarser class than its own, where that saves pages.
 *
 * Two occasions. The first requests of a class, MC_LEND_BYTES of them, have slots of the next power of
 * two: a page for each size that is used once or twice is most of what a small process has of a heap.
 * And where a class has no slot left but for fresh ones, while a coarser one has some that were used
 * before, those serve: what each class once needed at most would otherwise stay populated, and the sum
 * of that is far above what all need at once. Up to MC_DIRECT_MAX mc_direct[] then leads to what serves
 * the coarser class, until either class is refilled: a request costs what it always does.
 *
 * A lent slot is freed as any slot of its class, and counts there. Objects that are to be traced have
 * slots of their own class, and aligned ones too, or of one whose slots are aligned as well.
 *
 * Invariants, asserted by mc_lend_check() for the calling thread:
 *   1. mc_direct[] leads to what serves the class, or a coarser one whose slots are aligned as well
 *   2. if to a coarser one, the class has no slots on their way */
#ifndef MC_LEND_H
#define MC_LEND_H

#include "class.h"
#include "thread.h"

/* The class whose slot serves a request of this one, which has none at hand. */
unsigned mc_lend_class(struct mc_thread *self, unsigned class_index);

/* Requests of the class get what serves the lender from now on, if that may be; `lender`, which may be
 * the class itself, has just served one. The thread is the calling one, as below. */
void mc_lend_from(struct mc_thread *self, unsigned class_index, unsigned lender);

/* Ends all lending to and from the class, which has slots of its own from now on. */
void mc_lend_end(struct mc_thread *self, unsigned class_index);

void mc_lend_check(struct mc_thread *self);

#endif
