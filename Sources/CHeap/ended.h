/* SPDX-License-Identifier: MIT */
/* Ended: what threads leave behind when they end.
 *
 * Nobody is told that a thread ends. Its struct is seized (thread.h) by one that looks: at ticks and when
 * memory is short (mc_threads_reap()), when the heap grows (mc_heap_grew()), and when a span of a class is
 * wanted (mc_ended_adopt()). What was empty is given back then; the rest is on lists, from which others
 * take spans, or waits for a thread that takes the struct. */
#ifndef MC_ENDED_H
#define MC_ENDED_H

#include "heap.h"

/* Seizes every thread that ended and gives its empty spans back. */
void mc_threads_reap(void);

/* So many bytes of fresh memory were taken from the arenas. Now and then that seizes all threads that
 * ended but one, so that what comes next finds theirs; see MC_REAP_FRESH. */
void mc_heap_grew(uint64_t bytes);

/* A span of the class from a thread that ended, now of `self` and on no list; or NULL. */
struct mc_span *mc_ended_adopt(struct mc_thread *self, unsigned class_index);

#endif
