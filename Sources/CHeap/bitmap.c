/* SPDX-License-Identifier: MIT */
/* See bitmap.h. */
#include "bitmap.h"

/* The part of the run [first, end) that lies in the word of bit `first`. */
static uint64_t mask_of(uint64_t first, uint64_t end)
{
    uint64_t low = ~0ull << first % 64;
    uint64_t word_end = (first / 64 + 1) * 64;
    return end >= word_end ? low : low & ~(~0ull << end % 64);
}

static uint64_t next_word(uint64_t bit)
{
    return (bit / 64 + 1) * 64;
}

void mc_bits_clear(uint64_t *words, uint64_t first, uint64_t count)
{
    for (uint64_t bit = first, end = first + count; bit < end; bit = next_word(bit))
        __atomic_fetch_and(&words[bit / 64], ~mask_of(bit, end), __ATOMIC_RELEASE);
}

uint64_t mc_bits_clear_set(uint64_t *words, uint64_t first, uint64_t count)
{
    uint64_t before = 0;
    for (uint64_t bit = first, end = first + count; bit < end; bit = next_word(bit)) {
        uint64_t mask = mask_of(bit, end);
        before += mc_bits_in(mask & __atomic_fetch_and(&words[bit / 64], ~mask, __ATOMIC_RELEASE));
    }
    return before;
}

uint64_t mc_bits_set(uint64_t *words, uint64_t first, uint64_t count)
{
    uint64_t before = 0;
    for (uint64_t bit = first, end = first + count; bit < end; bit = next_word(bit)) {
        uint64_t mask = mask_of(bit, end);
        uint64_t seen = mask & __atomic_fetch_or(&words[bit / 64], mask, __ATOMIC_ACQ_REL);
        before += mc_bits_in(seen);
    }
    return before;
}

int mc_bits_claim(uint64_t *words, uint64_t first, uint64_t count)
{
    for (uint64_t bit = first, end = first + count; bit < end; bit = next_word(bit)) {
        uint64_t mask = mask_of(bit, end);
        uint64_t before = __atomic_fetch_or(&words[bit / 64], mask, __ATOMIC_ACQUIRE);
        if (likely(!(before & mask))) continue;
        __atomic_fetch_and(&words[bit / 64], ~(mask & ~before), __ATOMIC_RELEASE);
        if (bit > first) mc_bits_clear(words, first, bit - first);
        return 0;
    }
    return 1;
}

/* A word of `words`, in which what is clear in `only`, if that is given, is set. */
static inline uint64_t word_at(const uint64_t *words, const uint64_t *only, uint64_t bit)
{
    uint64_t word = mc_load(&words[bit / 64]);
    return only ? word | ~mc_load(&only[bit / 64]) : word;
}

/* The first clear bit at or behind `from`, or `size`. */
static inline uint64_t first_clear(const uint64_t *words, const uint64_t *only, uint64_t size,
                                   uint64_t from)
{
    for (uint64_t bit = from; bit < size; bit = next_word(bit)) {
        uint64_t clear = ~word_at(words, only, bit) & ~0ull << bit % 64;
        if (clear) return bit / 64 * 64 + (uint64_t)__builtin_ctzll(clear);
    }
    return size;
}

/* The first set bit in [from, end), or `end`. */
static inline uint64_t first_set(const uint64_t *words, const uint64_t *only, uint64_t from,
                                 uint64_t end)
{
    for (uint64_t bit = from; bit < end; bit = next_word(bit)) {
        uint64_t set = word_at(words, only, bit) & mask_of(bit, end);
        if (set) return bit / 64 * 64 + (uint64_t)__builtin_ctzll(set);
    }
    return end;
}

static inline uint64_t find(const uint64_t *words, const uint64_t *only, uint64_t size,
                            uint64_t from, uint64_t count, uint64_t step, uint64_t phase)
{
    uint64_t bit = from;
    while (bit + count <= size) {
        bit = first_clear(words, only, size, bit);
        bit += (phase - bit) & (step - 1);
        if (bit + count > size) break;
        uint64_t obstacle = first_set(words, only, bit, bit + count);
        if (obstacle == bit + count) return bit;
        bit = obstacle + 1;
    }
    return MC_BITS_NONE;
}

uint64_t mc_bits_find(const uint64_t *words, uint64_t size, uint64_t from, uint64_t count,
                      uint64_t step, uint64_t phase)
{
    return find(words, 0, size, from, count, step, phase);
}

uint64_t mc_bits_find_in(const uint64_t *words, const uint64_t *only, uint64_t size, uint64_t from,
                         uint64_t count, uint64_t step, uint64_t phase)
{
    return find(words, only, size, from, count, step, phase);
}

uint64_t mc_bits_run_in(const uint64_t *words, const uint64_t *only, uint64_t size, uint64_t first)
{
    return first_set(words, only, first, size) - first;
}
