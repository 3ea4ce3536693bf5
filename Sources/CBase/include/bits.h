/* SPDX-License-Identifier: MIT */
/* Small words every file uses: branch hints, rounding, and atomics on plain fields.
 *
 * The heap's structs have plain fields (Swift reads them), so atomic access is by these functions
 * instead of _Atomic. Each names its memory order; a caller that needs more than relaxed says with
 * whom it pairs. */
#ifndef MC_BITS_H
#define MC_BITS_H

#include <stddef.h>
#include <stdint.h>

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

enum { MC_PAGE = 4096, MC_CACHE_LINE = 64 };

/* For large arrays that are zero at first and of which a small process touches little: they lie behind
 * all other data, so that the small variables share a few pages instead of one between any two arrays. */
#define MC_TABLE __attribute__((section(".bss.tables")))

/* `align` is a power of two. May wrap to 0: callers bound `value` first. */
static inline uint64_t mc_round_up(uint64_t value, uint64_t align)
{
    return (value + align - 1) & ~(align - 1);
}

static inline int mc_is_power_of_two(uint64_t value)
{
    return value && !(value & (value - 1));
}

/* The smallest that is not below `value`. Requires 1 < value <= 2^63. */
static inline uint64_t mc_power_of_two_from(uint64_t value)
{
    return 1ull << (64 - __builtin_clzll(value - 1));
}

#define mc_load(field)                 __atomic_load_n((field), __ATOMIC_RELAXED)
#define mc_load_acquire(field)         __atomic_load_n((field), __ATOMIC_ACQUIRE)
#define mc_store(field, value)         __atomic_store_n((field), (value), __ATOMIC_RELAXED)
#define mc_store_release(field, value) __atomic_store_n((field), (value), __ATOMIC_RELEASE)
#define mc_add(field, value)           __atomic_fetch_add((field), (value), __ATOMIC_RELAXED)
#define mc_sub(field, value)           __atomic_fetch_sub((field), (value), __ATOMIC_RELAXED)
#define mc_take(field)                 __atomic_exchange_n((field), 0, __ATOMIC_ACQUIRE)

/* For the shortest paths: compilers make one instruction with an operand in memory of these, but not
 * of an atomic load. mc_peek() reads a field that others store; mc_step() changes one that only the
 * caller stores and others may read; mc_step_is_zero() also tells whether it is 0 then, of a field of 32
 * bits. Aligned words, so none is ever seen half done; sanitizers are told by atomics. (gcc makes three
 * instructions of a step. A signal handler in between that allocates would undo it, but that may be in the
 * middle of the list beside it as well, whatever the compiler: handlers that interrupt the heap must not use
 * it, signal-safety(7). Those that interrupt tracing may: see mc_counters_add().) */
#ifdef __SANITIZE_THREAD__
#    define mc_peek(field)               mc_load(field)
#    define mc_step(field, step)         __atomic_add_fetch((field), (step), __ATOMIC_RELAXED)
#    define mc_step_is_zero(field, step) (mc_step((field), (step)) == 0)
#else
#    define mc_peek(field)       (*(volatile const __typeof__(*(field)) *)(field))
#    define mc_step(field, step) (*(volatile __typeof__(*(field)) *)(field) += (step))
#    if defined(__x86_64__)
/* Compilers load the field once more to compare it. */
#        define mc_step_is_zero(field, step)                                                       \
            __extension__({                                                                        \
                _Static_assert(sizeof(*(field)) == 4, "of 32 bits");                               \
                int is_zero;                                                                       \
                __asm__ volatile("addl %2, %0" : "+m"(*(field)), "=@ccz"(is_zero) : "i"(step));    \
                is_zero;                                                                           \
            })
#    else
#        define mc_step_is_zero(field, step) (mc_step((field), (step)) == 0)
#    endif
#endif

/* Stores `wanted` if *field still is *seen; else loads it into *seen. Success is acquire and
 * release, failure relaxed. */
#define mc_swap_if(field, seen, wanted)                                                            \
    __atomic_compare_exchange_n((field), (seen), (wanted), 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)

#endif
