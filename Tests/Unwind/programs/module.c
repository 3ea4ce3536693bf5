/* SPDX-License-Identifier: MIT */
/* Built twice, with different SIZE: the same instructions at the same offsets but for the size of
 * the frames, so that each return address of one is one of the other too, with another rule. */
#include <stdlib.h>

_Static_assert(SIZE >= 512, "small sizes have shorter instructions");

static __attribute__((noinline)) unsigned inner(unsigned i)
{
    volatile char room[SIZE];
    char *memory = malloc(i + 1);
    room[i & 255] = (char)i;
    free(memory);
    return (unsigned char)room[i & 255];
}

unsigned run(unsigned i)
{
    volatile char room[SIZE + 256];
    room[i & 255] = 1;
    return inner(i) + inner(i + 1) + (unsigned char)room[i & 255];
}
