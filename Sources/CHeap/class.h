/* SPDX-License-Identifier: MIT */
/* Size classes: what follows from a class. Which serves a request, and with what slots, is in memctl_heap.h.
 * Up to MC_LINEAR_MAX the classes are a quantum apart; above, every doubling is cut in MC_STEPS equal
 * parts, so a slot wastes less than 1/(MC_STEPS + 1) = 1/9 of itself, but for requests up to 8 quanta,
 * where alignment costs up to 15 bytes.
 *
 * Invariant: mc_class_for(mc_class_slot_size(c)) == c for every c. */
#ifndef MC_CLASS_H
#define MC_CLASS_H

#include "limits.h"

/* Slices of a span of this class: the number that wastes least at its end, of those from the smallest
 * that will do to twice that; for the largest slots, of those that hold two at least. */
static inline unsigned mc_class_span_slices(unsigned index)
{
    uint64_t slot = mc_class_slot_size(index);
    uint64_t wanted = slot * MC_SPAN_SLOTS_WANTED;
    if (wanted > MC_SPAN_SIZE_WANTED) wanted = MC_SPAN_SIZE_WANTED;
    if (wanted < slot * MC_SPAN_SLOTS) wanted = slot * MC_SPAN_SLOTS;
    unsigned first = (unsigned)((wanted + MC_SLICE - 1) / MC_SLICE), last = 2 * first - 1;
    if (wanted > MC_SPAN_SLICES_MAX * MC_SLICE) {
        first = (unsigned)((MC_SPAN_SLOTS_MIN * slot + MC_SLICE - 1) / MC_SLICE);
        last = MC_SPAN_SLICES_MAX;
    }
    unsigned best = first;
    for (unsigned slices = first + 1; slices <= last; slices++) {
        /* waste / size, compared without division */
        uint64_t waste = slices * (uint64_t)MC_SLICE % slot;
        if (waste * best < best * (uint64_t)MC_SLICE % slot * slices) best = slices;
    }
    return best;
}

/* The class whose slots serve the first requests of this one: a power of two from 128 bytes on, so that
 * a program with a few objects of each size needs fewer pages. `index` itself for the tiny classes,
 * which every program fills, and those of which a page holds one or two. */
static inline unsigned mc_class_lender(unsigned index)
{
    uint64_t size = mc_class_slot_size(index);
    if (size <= MC_LEND_ABOVE || size > MC_LEND_BYTES) return index;
    unsigned log2 = 64u - (unsigned)__builtin_clzl(size - 1);
    return mc_class_for(1ull << log2);
}

#endif
