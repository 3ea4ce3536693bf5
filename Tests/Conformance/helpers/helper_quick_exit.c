/* helper_quick_exit: ends by quick_exit(), whose handlers use the heap. */
/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

static void *kept;

static void handler(void)
{
    free(kept);
    kept = realloc(malloc(100), 100000);
    if (!kept) _Exit(1);
}

int main(void)
{
    for (int i = 0; i < 30; i++)
        if (at_quick_exit(handler) != 0) return 2;
    kept = malloc(5000);
    quick_exit(0);
}
