/* SPDX-License-Identifier: MIT */
/* recorder.so, a preload: how large a program's objects are and how long they live, for the tables that
 * the kernel `churn` draws from.
 *
 *     LD_PRELOAD=build/bench/recorder.so RECORD=FILE program
 *
 * A lifetime is counted in allocations, by whatever thread, between an object's birth and its end. At the
 * end of the process FILE.PID gets a line a pair of size and lifetime: the upper bound of the sizes (eight
 * steps a doubling, 16 bytes at least), log2 of the lifetime (64: still live) and the number of objects.
 * On glibc, whose functions have other names for us to call. One lock, no care for speed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *object, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern void __libc_free(void *object);

enum { PLACES = 1 << 23, SIZES = 512, LIVES = 65, STEPS = 8, QUANTUM = 16, STILL_LIVE = 64 };

static struct birth {
    void *object;
    uint64_t number;
    size_t size;
} births[PLACES]; /* by address, open addressing */

static uint64_t counts[SIZES][LIVES];
static uint64_t born;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static size_t upper_bound(size_t size)
{
    if (size <= QUANTUM * STEPS) return size ? (size + QUANTUM - 1) / QUANTUM * QUANTUM : QUANTUM;
    size_t step = ((size_t)1 << (63 - __builtin_clzl(size - 1))) / STEPS;
    return (size + step - 1) / step * step;
}

static unsigned bucket_of(size_t size)
{
    if (size <= QUANTUM * STEPS) return size ? (unsigned)((size - 1) / QUANTUM) : 0;
    unsigned log2 = 63u - (unsigned)__builtin_clzl(size - 1);
    return STEPS * (log2 - 6) + (unsigned)((size - 1) >> (log2 - 3)) - STEPS;
}

static struct birth *place_of(const void *object)
{
    uint64_t at = (uint64_t)object * 0x9e3779b97f4a7c15u >> 41;
    while (births[at].object && births[at].object != object)
        at = (at + 1) % PLACES;
    return &births[at];
}

/* Ended objects keep their place: addresses come again. */
static void end(void *object)
{
    struct birth *birth = place_of(object);
    if (!birth->number) return;
    uint64_t lived = born - birth->number;
    unsigned log2 = lived ? 63u - (unsigned)__builtin_clzl(lived) : 0;
    counts[bucket_of(birth->size)][log2]++;
    birth->number = 0;
}

static void *begin(void *object, size_t size)
{
    if (!object) return object;
    pthread_mutex_lock(&lock);
    *place_of(object) = (struct birth){object, ++born, size};
    pthread_mutex_unlock(&lock);
    return object;
}

static void forget(void *object)
{
    if (!object) return;
    pthread_mutex_lock(&lock);
    end(object);
    pthread_mutex_unlock(&lock);
}

void *malloc(size_t size)
{
    return begin(__libc_malloc(size), size);
}

void *calloc(size_t count, size_t size)
{
    return begin(__libc_calloc(count, size), count * size);
}

void *realloc(void *object, size_t size)
{
    forget(object);
    return begin(__libc_realloc(object, size), size);
}

void *memalign(size_t align, size_t size)
{
    return begin(__libc_memalign(align, size), size);
}

void *aligned_alloc(size_t align, size_t size)
{
    return memalign(align, size);
}

int posix_memalign(void **out, size_t align, size_t size)
{
    *out = memalign(align, size);
    return *out ? 0 : 12;
}

/* As glibc lays its own word before an object: a program with another heap would ask that. */
size_t malloc_usable_size(void *object)
{
    if (!object) return 0;
    size_t word = ((const size_t *)object)[-1];
    return (word & ~(size_t)7) - (word & 2 ? 2 : 1) * sizeof(word);
}

void free(void *object)
{
    forget(object);
    __libc_free(object);
}

__attribute__((destructor)) static void tell(void)
{
    char name[4096];
    const char *base = getenv("RECORD");
    if (!base) return;
    snprintf(name, sizeof(name), "%s.%d", base, (int)getpid());
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) return;
    size_t sizes[SIZES] = {0};
    for (size_t size = QUANTUM; size < (size_t)1 << 40; size = upper_bound(size + 1))
        if (bucket_of(size) < SIZES) sizes[bucket_of(size)] = size;
    for (size_t i = 0; i < PLACES; i++)
        if (births[i].number) counts[bucket_of(births[i].size)][STILL_LIVE]++;
    for (unsigned i = 0; i < SIZES; i++)
        for (unsigned k = 0; k < LIVES; k++)
            if (counts[i][k]) dprintf(file, "%zu %u %lu\n", sizes[i], k, counts[i][k]);
    close(file);
}
