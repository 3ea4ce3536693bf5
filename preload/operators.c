/* SPDX-License-Identifier: MIT */
/* C++'s operator new and delete, by their mangled names, so that a C library can have them and
 * needs no C++ runtime. A program that defines its own keeps them.
 *
 * When memory is short the new handler is called until it frees some, throws, or there is none;
 * then std::bad_alloc is thrown, or the nothrow forms return NULL. Both live in the C++ runtime, if
 * there is one: the references are weak. */
#include <errno.h>
#include <stdlib.h>

#include "instrument.h"

typedef void (*new_handler)(void);
extern new_handler _ZSt15get_new_handlerv(void) __attribute__((weak)); /* std::get_new_handler() */
extern void _ZSt17__throw_bad_allocv(void) __attribute__((weak));      /* std::__throw_bad_alloc() */

static void *try_new(size_t size, size_t align)
{
    if (!size)
        size = 1;
    if (unlikely(mc_armed()))
        return mc_instrumented_alloc(size, align, 0);
    return align > MC_QUANTUM ? mc_alloc_aligned(size, align) : mc_alloc(size);
}

/* noinline: it can throw, so it is a frame of its own, off the short path. */
__attribute__((noinline)) static void *retry_new(size_t size, size_t align, int may_throw)
{
    for (;;) {
        new_handler handler = _ZSt15get_new_handlerv ? _ZSt15get_new_handlerv() : 0;
        if (!handler)
            break;
        handler();
        void *object = try_new(size, align);
        if (object)
            return object;
    }
    errno = ENOMEM;
    if (!may_throw)
        return 0;
    if (_ZSt17__throw_bad_allocv)
        _ZSt17__throw_bad_allocv();
    abort();
}

static inline void *new(size_t size, size_t align)
{
    void *object = try_new(size, align);
    return likely(object != 0) ? object : retry_new(size, align, 1);
}

static inline void *new_nothrow(size_t size, size_t align)
{
    void *object = try_new(size, align);
    return likely(object != 0) ? object : retry_new(size, align, 0);
}

/* Letters: nw na  new, new[] · dl da  delete, delete[] · m  size_t · Pv  void * ·
 * St11align_val_t  std::align_val_t · RKSt9nothrow_t  const std::nothrow_t & */
EXPORT void *_Znwm(size_t size)
{
    return new(size, MC_QUANTUM);
}

EXPORT void *_Znam(size_t size)
{
    return new(size, MC_QUANTUM);
}

EXPORT void *_ZnwmRKSt9nothrow_t(size_t size, const void *nothrow)
{
    (void)nothrow;
    return new_nothrow(size, MC_QUANTUM);
}

EXPORT void *_ZnamRKSt9nothrow_t(size_t size, const void *nothrow)
{
    (void)nothrow;
    return new_nothrow(size, MC_QUANTUM);
}

EXPORT void *_ZnwmSt11align_val_t(size_t size, size_t align)
{
    return new(size, align);
}

EXPORT void *_ZnamSt11align_val_t(size_t size, size_t align)
{
    return new(size, align);
}

EXPORT void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const void *nothrow)
{
    (void)nothrow;
    return new_nothrow(size, align);
}

EXPORT void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const void *nothrow)
{
    (void)nothrow;
    return new_nothrow(size, align);
}

/* A size that is not the object's own works on glibc, so it is not looked at. */
EXPORT void _ZdlPv(void *object)
{
    mc_free(object);
}

EXPORT void _ZdaPv(void *object)
{
    mc_free(object);
}

#define DELETE_AS(name, ...) \
    EXPORT void name(void *object, __VA_ARGS__) __attribute__((alias("_ZdlPv")))

#pragma GCC diagnostic ignored "-Wattribute-alias"
DELETE_AS(_ZdlPvm, size_t);
DELETE_AS(_ZdaPvm, size_t);
DELETE_AS(_ZdlPvRKSt9nothrow_t, const void *);
DELETE_AS(_ZdaPvRKSt9nothrow_t, const void *);
DELETE_AS(_ZdlPvSt11align_val_t, size_t);
DELETE_AS(_ZdaPvSt11align_val_t, size_t);
DELETE_AS(_ZdlPvmSt11align_val_t, size_t, size_t);
DELETE_AS(_ZdaPvmSt11align_val_t, size_t, size_t);
DELETE_AS(_ZdlPvSt11align_val_tRKSt9nothrow_t, size_t, const void *);
DELETE_AS(_ZdaPvSt11align_val_tRKSt9nothrow_t, size_t, const void *);
