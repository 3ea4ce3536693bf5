/* plugin_wrap: a preloaded library that wraps the heap as memory profilers do: each function looks
 * its successor up at its first call, which may be before any constructor ran. */
/* SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>

static unsigned long calls;

static void *next_of(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (!function) abort();
    __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
    return function;
}

void *malloc(size_t size)
{
    static void *(*next)(size_t);
    if (!next) next = (void *(*)(size_t))next_of("malloc");
    return next(size);
}

void free(void *p)
{
    static void (*next)(void *);
    if (!next) next = (void (*)(void *))next_of("free");
    next(p);
}

void *calloc(size_t count, size_t size)
{
    static void *(*next)(size_t, size_t);
    if (!next) next = (void *(*)(size_t, size_t))next_of("calloc");
    return next(count, size);
}

void *realloc(void *p, size_t size)
{
    static void *(*next)(void *, size_t);
    if (!next) next = (void *(*)(void *, size_t))next_of("realloc");
    return next(p, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    static int (*next)(void **, size_t, size_t);
    if (!next) next = (int (*)(void **, size_t, size_t))next_of("posix_memalign");
    return next(out, alignment, size);
}
