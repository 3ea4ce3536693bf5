/* SPDX-License-Identifier: MIT */
/* Trimming: pages inside spans that hold only free slots go back to the kernel, while other slots
 * of the span live on. For malloc_trim(3), which walks every span of a thread; and at ticks, where
 * only those of slots of MC_TRIM_SLOT and up are looked at, and have to be idle since the one before.
 *
 * A span is seen as 64 equal parts, of a page at least. A part with no live slot in it is purged, and
 * its bit set in `purged`; the slots that start in it leave the free list, as their links are gone.
 * They come back, a part at a time, when the span has nothing else to give. Until then a slot in a
 * purged part is known to be free by the bit. Only the span's owner does any of this. */
#ifndef MC_TRIM_H
#define MC_TRIM_H

#include "heap.h"

/* Trims the spans of a thread that is the caller's own or seized. */
void mc_trim_thread(struct mc_thread *thread);

/* At a tick: trims spans of the thread that are as they were at the tick before. Owner only. */
void mc_trim_idle(struct mc_thread *thread);

/* Puts the slots of one purged part back on `free`, which is empty. Returns 1. */
int mc_trim_restore(struct mc_span *span);

/* The same of all parts of a span whose slots are all carved and free, and on no list: for whoever has it to
 * itself. Returns 0 if the kernel refused, and then nothing was done. */
int mc_trim_whole(struct mc_span *span);

/* 1 if the slot starts in a purged part. Any thread. */
int mc_trim_is_purged(const struct mc_span *span, const void *slot);

#endif
