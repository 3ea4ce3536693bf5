/* SPDX-License-Identifier: MIT */
/* Lending: a request is served by a slot of a coarser class than its own, where that saves pages.
 *
 * Two occasions. The first requests of a class, MC_LEND_BYTES of them, have slots of the next power of
 * two: a page for each size that is used once or twice is most of what a small process has of a heap.
 * And where a class has no slot left but for fresh ones, while one of the next MC_LEND_STEPS has some
 * that were used before, those serve: what each class once needed at most would otherwise stay
 * populated, and the sum of that is far above what all need at once.
 *
 * Nothing is noted: a lent slot is freed as any slot of its class, and counts there. Objects that are
 * to be traced, and aligned ones, have slots of their own class: their paths don't ask. */
#ifndef MC_LEND_H
#define MC_LEND_H

#include "heap.h"

/* The class whose slot serves a request of this one, which has none at hand. */
unsigned mc_lend_class(struct mc_thread *self, unsigned class_index);

#endif
