/* SPDX-License-Identifier: MIT */
/* Ranges: lists of what the library mapped for itself (struct mc_meta_list), for readers from outside:
 * to them it would else be memory of the program's.
 *
 * Lists are added at the head and never unmade, records are taken once each; so any thread may call,
 * at any time, and a fork at any instant leaves lists that are whole. */
#ifndef MC_RANGES_H
#define MC_RANGES_H

#include <stddef.h>

#include "memctl_heap.h"

/* Lists the range. `newest` holds the address of the newest list, or 0; `make` makes one more, NULL if
 * there is no memory: the range is in no list then. One that `make` mapped for it may be in it. */
void mc_ranges_note(uint64_t *newest, const void *start, size_t size,
                    struct mc_meta_list *(*make)(void));

/* To be called before the range is unmapped: afterwards another may get the same addresses. */
void mc_ranges_forget(const uint64_t *newest, const void *start);

/* Of all ranges listed. */
uint64_t mc_ranges_bytes(const uint64_t *newest);

#endif
