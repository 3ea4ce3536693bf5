/* SPDX-License-Identifier: MIT */
/* See own_memory.h. */
#define _GNU_SOURCE
#include "own_memory.h"

#include <sys/mman.h>

size_t own_memory_bytes;

void *mc_own_map(size_t size)
{
    void *fresh = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) return 0;
    __atomic_fetch_add(&own_memory_bytes, size, __ATOMIC_RELAXED);
    return fresh;
}

void mc_own_release(void *start, size_t size)
{
    munmap(start, size);
    __atomic_fetch_sub(&own_memory_bytes, size, __ATOMIC_RELAXED);
}

void *mc_own_map_trail(size_t size)
{
    return mc_own_map(size);
}

void mc_own_release_trail(void *start, size_t size)
{
    mc_own_release(start, size);
}
