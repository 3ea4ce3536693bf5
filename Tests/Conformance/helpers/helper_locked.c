/* helper_locked: locks all its memory under RLIMIT_MEMLOCK, takes blocks until there are no more,
 * gives them back, and takes one again. A program of its own, since what counts is the address space,
 * and that of the conformance program is mostly its tables. Ends with 0, or the number of the step
 * that failed. */
/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

int main(void)
{
    enum { SIZE = 10000, LEAST = 256 << 10 };
    void **list = NULL;
    size_t got = 0;
    free(malloc(1));
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return 1;
    for (;;) {
        errno = 0;
        void **p = malloc(SIZE);
        if (!p) break;
        *p = list;
        list = p;
        got += SIZE;
    }
    if (errno != ENOMEM) return 2;
    if (got < LEAST) return 3;
    while (list) {
        void **next = *list;
        free(list);
        list = next;
    }
    void *p = malloc(SIZE);
    if (!p) return 4;
    free(p);
    return 0;
}
