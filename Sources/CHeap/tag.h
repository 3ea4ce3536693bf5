/* SPDX-License-Identifier: MIT */
/* Tags: one 64-bit word a slot, whose meaning the heap does not know; 0 is none. They lie in an
 * array beside the span, made when the first tag is set, so that heaps without tags pay nothing.
 *
 * A span that may hold tags is flagged, which sends every free of its slots to the long path; there
 * the tag is taken off before the slot is free. */
#ifndef MC_TAG_H
#define MC_TAG_H

#include "heap.h"

/* Gives the span's array back, if it has one. Requires that all its tags are 0. */
void mc_tags_give(struct mc_span *span);

#endif
