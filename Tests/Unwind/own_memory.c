/* SPDX-License-Identifier: MIT */
/* Own memory for the trails of tests, where there is no region to count it in. */
#define _GNU_SOURCE
#include "own.h"

#include <sys/mman.h>

void *mc_own_map(size_t size)
{
    void *fresh = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return fresh == MAP_FAILED ? 0 : fresh;
}

void mc_own_release(void *start, size_t size)
{
    munmap(start, size);
}
