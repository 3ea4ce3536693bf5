/* SPDX-License-Identifier: MIT */
/* Tags: one 64-bit word a slot, whose meaning the heap does not know; 0 is none. They lie in two arrays
 * beside the span, those of the slots that are carved first, and the others. Each is made when the first
 * tag in it is set, so that heaps without tags pay nothing, and those of spans that were carved a little pay little.
 * An array never moves: other threads take tags out of it with the slots they free.
 *
 * A span that may hold tags is flagged, which sends every free of its slots to the long path; there
 * the tag is taken off before the slot is free. */
#ifndef MC_TAG_H
#define MC_TAG_H

#include "heap.h"

/* Gives back the arrays that the span has. Requires that all its tags are 0. */
void mc_tags_give(struct mc_span *span);

/* Of class spans. */
static inline int mc_span_has_tags(const struct mc_span *span)
{
    return span->tags || span->more_tags;
}

static inline uint64_t mc_tag_of_slot(const struct mc_span *span, const void *slot)
{
    const uint64_t *place = mc_tag_place(span, mc_slot_index(span, slot));
    return place ? mc_load(place) : 0;
}

#endif
