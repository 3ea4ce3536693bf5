/* SPDX-License-Identifier: MIT */
/* Large memory: what a large or huge span consists of, and nothing of who has it: slices of an arena, or a
 * mapping of its own, which the root counts. Any thread; the caller has the span to itself. */
#ifndef MC_LARGE_MEMORY_H
#define MC_LARGE_MEMORY_H

#include "limits.h"

/* Memory for span->slot_size bytes, which are whole pages, at a multiple of `align`, with up to `room` bytes behind
 * it, or a mapping if that is MC_LARGE_MAPPED or nothing else will do. Sets `base` and `size`, and *zero to
 * whether it reads as zero. Returns MC_SPAN_LARGE, MC_SPAN_HUGE, or 0: there is none. */
int mc_large_memory_take(struct mc_span *span, size_t room, size_t align, int *zero);

/* Gives it back, of the state that it was taken with. */
void mc_large_memory_give(uint64_t base, uint64_t size, int state);

/* The span's fields of a large or huge object that nobody asked for yet, but for `base`, `size` and
 * `slot_size`. */
void mc_large_set_up(struct mc_span *span);

/* Gives back all that it is: its memory, of that state, its struct, its place in the page map. */
void mc_large_unmake(struct mc_span *span, int state);

/* So many more mappings, and bytes in them. */
void mc_large_memory_count(int64_t mappings, int64_t bytes);

#endif
