/* SPDX-License-Identifier: MIT */
/* Bitmaps of 64-bit words that several threads change at once. A bit's run is [first, first +
 * count), count > 0, within the bitmap.
 *
 * mc_bits_claim() acquires what mc_bits_clear() released: whoever finds a bit clear and claims it
 * sees all that its last holder did. */
#ifndef MC_BITMAP_H
#define MC_BITMAP_H

#include "bits.h"

#define MC_BITS_NONE UINT64_MAX

/* Sets the run if every bit of it was clear: returns 1; else changes nothing and returns 0. Others
 * may see some bits set for a moment in that case. */
int mc_bits_claim(uint64_t *words, uint64_t first, uint64_t count);

/* Returns how many bits of the run were set already. */
uint64_t mc_bits_set(uint64_t *words, uint64_t first, uint64_t count);

void mc_bits_clear(uint64_t *words, uint64_t first, uint64_t count);

/* The same; returns how many bits of the run were set. */
uint64_t mc_bits_clear_set(uint64_t *words, uint64_t first, uint64_t count);

/* The first run of `count` clear bits at or behind `from` whose number is `phase` modulo `step`
 * (a power of two), in a bitmap of `size` bits (a multiple of 64); MC_BITS_NONE if there is none.
 * Only a hint: others may take it at once. */
uint64_t mc_bits_find(const uint64_t *words, uint64_t size, uint64_t from, uint64_t count,
                      uint64_t step, uint64_t phase);

/* The same of bits that are set in `only`, a bitmap of the same size. */
uint64_t mc_bits_find_in(const uint64_t *words, const uint64_t *only, uint64_t size, uint64_t from,
                         uint64_t count, uint64_t step, uint64_t phase);

/* How many bits from `first` on, which is one, are like those that mc_bits_find_in() finds. */
uint64_t mc_bits_run_in(const uint64_t *words, const uint64_t *only, uint64_t size, uint64_t first);

/* How many bits are set. They are few, or it is for much memory: a loop is shorter. */
static inline unsigned mc_bits_in(uint64_t word)
{
    unsigned count = 0;
    for (; word; word &= word - 1)
        count++;
    return count;
}

#endif
