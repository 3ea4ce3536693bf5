/* SPDX-License-Identifier: MIT */
/* libc's names for the heap: malloc(3), posix_memalign(3), malloc_usable_size(3). glibc's
 * contracts live here and nowhere else: errno, zero sizes, overflow, what a bad alignment does.
 *
 * malloc makes one comparison for requests that are too large for its short path and for all of them
 * while something is armed; the others test the armed word. When instrumentation is on, and sampling
 * does not pass this one over, which is asked first, the same happens out of line, in instrument.c. */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "instrument.h"

static inline void *or_no_memory(void *object)
{
    if (unlikely(!object)) errno = ENOMEM;
    return object;
}

/* What has no slot at hand: out of line, so that the short path of malloc needs no stack. */
static __attribute__((noinline)) void *allocate_medium(size_t size)
{
    return or_no_memory(mc_alloc_medium(size));
}

/* Above the short path, and requests of no bytes, which count as one to a sample. Ends in tail calls, since
 * what is traced is charged to malloc's caller. */
static __attribute__((noinline)) void *allocate_unusual(size_t size)
{
    if (unlikely(mc_armed()) && !mc_sampling_passes(size))
        return mc_instrumented_alloc(size, MC_QUANTUM, 0);
    int has_span = size > MC_DIRECT_MAX && size <= MC_SMALL_MAX;
    void *object = likely(has_span) ? mc_alloc_current(size) : 0;
    return likely(object != 0) ? object : allocate_medium(size);
}

EXPORT void *malloc(size_t size)
{
    if (unlikely(size >= mc_direct_below())) {
        if (size > MC_DIRECT_MAX) return allocate_unusual(size);
        if (!mc_sampling_passes_bytes(size)) {
            if (mc_armed()) return mc_instrumented_alloc(size, MC_QUANTUM, 0);
            mc_sampling_untraced();
        }
    }
    void *object = mc_alloc_direct(size); /* NULL of no bytes */
    if (likely(object != 0)) return object;
    return likely(size != 0) ? allocate_medium(size) : allocate_unusual(size);
}

EXPORT void free(void *object)
{
    mc_free_here(object);
}

static __attribute__((noinline)) void *allocate_zeroed(size_t size)
{
    if (unlikely(mc_armed()) && !mc_sampling_passes(size))
        return mc_instrumented_alloc(size, MC_QUANTUM, 1);
    return or_no_memory(mc_alloc_slow(size, 1));
}

EXPORT void *calloc(size_t count, size_t size)
{
    size_t total;
    if (unlikely(__builtin_mul_overflow(count, size, &total))) {
        errno = ENOMEM;
        return 0;
    }
    if (unlikely(total >= mc_direct_below())) {
        if (total - 1 >= MC_DIRECT_MAX) return allocate_zeroed(total);
        if (!mc_sampling_passes_bytes(total)) {
            if (mc_armed()) return mc_instrumented_alloc(total, MC_QUANTUM, 1);
            mc_sampling_untraced();
        }
    }
    void *object = mc_alloc_direct(total);
    if (unlikely(!object)) object = allocate_medium(total);
    return object ? memset(object, 0, total) : 0;
}

static void *relocate(void *object, size_t size)
{
    size_t had =
        mc_slot_size(mc_span_of(object)); /* a live object: mc_realloc_in_place() has looked */
    int grows = size > had && size >= MC_GROW_MIN;
    void *fresh = or_no_memory(grows ? mc_alloc_growing(size) : mc_alloc(size));
    if (unlikely(!fresh)) return 0;
    memcpy(fresh, object, had < size ? had : size);
    mc_free(object);
    return fresh;
}

/* glibc: realloc(NULL, n) allocates, realloc(p, 0) frees and returns NULL, a failure leaves the
 * old object as it was. */
EXPORT void *realloc(void *object, size_t size)
{
    /* One with a tag is asked for its size's sample there, and only there. */
    if (unlikely(mc_armed()) && (mc_has_tag(object) || !mc_sampling_passes(size)))
        return mc_instrumented_realloc(object, size);
    void *plain = mc_realloc_short(object, size);
    if (likely(plain != 0)) return plain;
    if (!object) return or_no_memory(mc_alloc(size));
    if (unlikely(!size)) {
        mc_free(object);
        return 0;
    }
    if (unlikely(mc_has_tag(object))) return mc_instrumented_realloc(object, size);
    void *same = mc_realloc_in_place(object, size);
    return same ? same : relocate(object, size);
}

EXPORT void *reallocarray(void *object, size_t count, size_t size)
{
    size_t total;
    if (unlikely(__builtin_mul_overflow(count, size, &total))) {
        errno = ENOMEM;
        return 0;
    }
    return realloc(object, total);
}

/* Inlined, since what is traced is charged to the caller of the function that calls instrument.c. */
static inline __attribute__((always_inline)) void *allocate_aligned_slow(size_t size, size_t align)
{
    void *object = unlikely(mc_armed()) && !mc_sampling_passes(size)
                       ? mc_instrumented_alloc(size, align, 0)
                       : mc_alloc_aligned(size, align);
    if (unlikely(!object)) errno = ENOMEM;
    return object;
}

static inline void *allocate_aligned(size_t size, size_t align)
{
    void *direct = likely(size < mc_direct_below()) ? mc_alloc_aligned_direct(size, align) : 0;
    return likely(direct != 0) ? direct : allocate_aligned_slow(size, align);
}

/* POSIX: EINVAL and ENOMEM are returned; neither errno nor *out is touched then. */
EXPORT int posix_memalign(void **out, size_t align, size_t size)
{
    if (!mc_is_power_of_two(align) || align % sizeof(void *)) return EINVAL;
    void *object = likely(size < mc_direct_below()) ? mc_alloc_aligned_direct(size, align) : 0;
    if (unlikely(!object)) {
        int saved = errno;
        object = allocate_aligned_slow(size, align);
        errno = saved;
        if (!object) return ENOMEM;
    }
    *out = object;
    return 0;
}

/* glibc: an alignment that is no power of two is rounded up to one; beyond half the address space
 * there is none, which is EINVAL. */
EXPORT void *memalign(size_t align, size_t size)
{
    if (align > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return 0;
    }
    return allocate_aligned(size, align > MC_QUANTUM ? mc_power_of_two_from(align) : MC_QUANTUM);
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
    return memalign(align, size); /* glibc < 2.38 has one for the other */
}

EXPORT void *valloc(size_t size)
{
    return allocate_aligned(size, MC_PAGE);
}

EXPORT void *pvalloc(size_t size)
{
    if (size > SIZE_MAX - MC_PAGE) {
        errno = ENOMEM;
        return 0;
    }
    return allocate_aligned(mc_round_up(size, MC_PAGE), MC_PAGE);
}

/* glibc's own names for them, and the one that old programs have for free(3). By the assembler: the
 * attribute would want each to be declared with all of its target's attributes. */
#define ALSO(name, of) __asm__(".globl " #name "\n.set " #name ", " #of)
ALSO(__libc_malloc, malloc);
ALSO(__libc_free, free);
ALSO(__libc_calloc, calloc);
ALSO(__libc_realloc, realloc);
ALSO(__libc_memalign, memalign);
ALSO(__libc_valloc, valloc);
ALSO(__libc_pvalloc, pvalloc);
ALSO(__posix_memalign, posix_memalign);
ALSO(cfree, free);

EXPORT size_t malloc_usable_size(void *object)
{
    return object ? mc_usable_size(object, "malloc_usable_size()") : 0;
}
