/* SPDX-License-Identifier: MIT */
/* Refill: how a thread comes by a span with free slots, and where its spans go.
 *
 *     serving[class]  slots of small classes on their way to requests; mc_direct[] leads there
 *     current[class]  where they come from; serves larger classes itself
 *     spans[class] .. others that the thread has, see held.h
 *
 * Order of sources: slots others freed, those of full spans (reuse.h), fresh slots of the current span, the list,
 * the kept span, spans of an ended thread, the arenas. Nothing here is called by two threads for one struct at a
 * time: the owner calls it, or whoever seized the struct of a thread that ended. */
#ifndef MC_REFILL_H
#define MC_REFILL_H

#include "heap.h"

/* Finds a free slot, of what `current` says, for a class that has none at hand: it is with what serves
 * the class, or on the list of the current span of a class that is not direct. Returns 0 when memory is
 * short. *zero is set to whether the slot reads as zero behind its first two words. */
int mc_refill(struct mc_thread *self, unsigned class_index, int *zero);

/* The same in a heap in steady use, and no more than a turn: the current span has handed out all it has,
 * others that did so before have had slots freed. A slot, or NULL where anything else is to be asked
 * first; then nothing was done. Requires that no request of the class is led elsewhere. */
void *mc_refill_turn(struct mc_thread *self, unsigned class_index);

/* The owner has pushed a slot on the own list of a span, or taken one off `used`. */
void mc_refill_span_freed(struct mc_thread *self, struct mc_span *span);

/* Puts a live slot of the thread's own span back, without any check. */
void mc_refill_free(struct mc_thread *self, struct mc_span *span, struct mc_slot *slot);

/* Gives back spans that are empty: kept ones and idle current ones. With `purge`, their pages go at
 * once: those of spans that are taken again before they have been free for a tick would never go. */
void mc_refill_flush(struct mc_thread *thread, int purge);

/* Takes back what other threads freed. */
void mc_refill_collect(struct mc_thread *thread);

/* Time passes: once a tick one thread purges and looks after ended threads. */
void mc_refill_tick(struct mc_thread *self);

/* The same, but looks at the clock only when so many bytes were served; see MC_LOOK_BYTES. */
void mc_refill_look(struct mc_thread *self, uint64_t bytes);

#endif
