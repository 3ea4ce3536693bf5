/* SPDX-License-Identifier: MIT */
/* Built twice, with different SIZE: same functions at the same offsets, frames of different
 * size. */
#include <stdlib.h>

static __attribute__((noinline)) unsigned inner(unsigned i)
{
    volatile char room[SIZE];
    char *memory = malloc(i + 1);
    room[i % SIZE] = (char)i;
    free(memory);
    return (unsigned char)room[i % SIZE];
}

unsigned run(unsigned i)
{
    volatile char room[SIZE * 2];
    room[i % SIZE] = 1;
    return inner(i) + inner(i + 1) + (unsigned char)room[i % SIZE];
}
