/* SPDX-License-Identifier: MIT */
/* What every kernel shares.
 *
 * A kernel is a function that does a fixed amount of heap work, chosen by fixed seeds, and returns
 * a checksum of what it read back from the heap. The same binary therefore prints the same checksum
 * under every allocator, at any thread count that does the same work; another checksum means that
 * the heap damaged an object. Work is a total that threads share, so CPU time can be compared
 * between thread counts.
 *
 *     mc_scaled()        operations at this run's scale, at least 1
 *     mc_share()         one thread's part of a total
 *     mc_random()        xorshift64*, a state per thread
 *     mc_object_*()      an object that knows its size and carries a mark at both ends
 *     mc_in_threads()    the same function in N threads, index 0 .. N-1, each on a processor of its own
 *     mc_resident()      pages of this process now, read without allocation
 */
#ifndef MC_BENCH_H
#define MC_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct mc_bench {
    unsigned threads;  /* [const] > 0 */
    double scale;      /* [const] > 0; 1 lasts some tenths of a second */
    uint64_t ops;      /* pairs of allocation and free, told by the kernel when it is done */
    double rss_ratio;  /* kernels that measure memory: resident over live bytes, else 0 */
    double kept_ratio; /* kernels that free all: resident after over peak before, else 0 */
};

typedef uint64_t mc_kernel(struct mc_bench *bench);

/* Ends the program: the heap returned NULL, or gave back other bytes than were stored. */
_Noreturn void mc_bench_fail(const char *what);

static inline uint64_t mc_scaled(const struct mc_bench *bench, uint64_t count)
{
    double scaled = (double)count * bench->scale;
    return scaled < 1 ? 1 : (uint64_t)scaled;
}

static inline uint64_t mc_share(uint64_t total, unsigned threads, unsigned index)
{
    return total / threads + (index < total % threads);
}

static inline uint64_t mc_seed(unsigned index)
{
    return 0x9e3779b97f4a7c15u * (index + 1);
}

static inline uint64_t mc_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1du;
}

/* A number in [0, bound), by multiplication: cheaper than a division, bias below 2^-32. */
static inline uint32_t mc_below(uint64_t *state, uint32_t bound)
{
    return (uint32_t)(((mc_random(state) >> 32) * bound) >> 32);
}

static inline uint32_t mc_between(uint64_t *state, uint32_t low, uint32_t high)
{
    return low + mc_below(state, high - low + 1);
}

static inline void *mc_need(void *p)
{
    if (!p) mc_bench_fail("the heap returned NULL");
    return p;
}

/* The first 8 bytes of an object; its last byte repeats the mark when it is longer than that. */
struct mc_object {
    uint32_t size;
    uint32_t mark;
};

enum { MC_OBJECT_MIN = sizeof(struct mc_object) };

static inline void mc_object_stamp(void *p, uint32_t size, uint32_t mark)
{
    struct mc_object *object = p;
    object->size = size;
    object->mark = mark;
    if (size > MC_OBJECT_MIN) ((unsigned char *)p)[size - 1] = (unsigned char)mark;
}

/* Requires size >= MC_OBJECT_MIN. */
static inline void *mc_object_new(uint32_t size, uint32_t mark)
{
    void *p = mc_need(malloc(size));
    mc_object_stamp(p, size, mark);
    return p;
}

/* What the object adds to the checksum; ends the program when its two ends disagree. */
static inline uint64_t mc_object_sum(const void *p)
{
    const struct mc_object *object = p;
    uint32_t size = object->size;
    if (size > MC_OBJECT_MIN && ((const unsigned char *)p)[size - 1] != (unsigned char)object->mark)
        mc_bench_fail("an object was damaged");
    return (uint64_t)size * 31 + object->mark;
}

static inline uint64_t mc_object_end(void *p)
{
    if (!p) return 0;
    uint64_t sum = mc_object_sum(p);
    free(p);
    return sum;
}

/* Runs work(context, 0 .. threads-1), each in its own thread, and waits for all. One thread is the
 * caller itself: a program without threads must stay one, some heaps are faster then. Returns the
 * sum of what they returned. */
uint64_t mc_in_threads(unsigned threads, uint64_t (*work)(void *context, unsigned index),
                       void *context);

/* Bytes of this process that are backed by memory. */
uint64_t mc_resident(void);

/* What became resident since `before`, over the live bytes. */
static inline double mc_resident_over(uint64_t live, uint64_t before)
{
    uint64_t resident = mc_resident();
    return resident > before ? (double)(resident - before) / (double)live : 0;
}

#endif
