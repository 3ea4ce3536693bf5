/* SPDX-License-Identifier: MIT */
/* count_ops OPERATION COUNT: does one heap operation COUNT times, for counting instructions.
 *
 * `empty` is the loop without a heap. Run with two counts and take the difference, then the start
 * of the process and the first, slow calls drop out as well:
 *
 *     per operation = (I(op, 2N) - I(op, N) - I(empty, 2N) + I(empty, N)) / N
 *
 * Operations: pair, pair256, pair4k (malloc and free of 16, 256, 4096), calloc (64, and free),
 * realloc (malloc 16, realloc to 32, free), aligned (posix_memalign of 64 at 64, and free) and
 * half-fill (100 mallocs of 16, then 100 frees; one call each, so two make a pair). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 100 };

static void *volatile sink;

static void do_empty(void)
{
    sink = NULL;
}

static void pair(size_t size)
{
    sink = malloc(size);
    free(sink);
}

static void do_pair(void)
{
    pair(16);
}
static void do_pair256(void)
{
    pair(256);
}
static void do_pair4k(void)
{
    pair(4096);
}

static void do_calloc(void)
{
    sink = calloc(1, 64);
    free(sink);
}

static void do_realloc(void)
{
    sink = malloc(16);
    sink = realloc(sink, 32);
    free(sink);
}

static void do_aligned(void)
{
    void *p = NULL;
    if (posix_memalign(&p, 64, 64)) abort();
    sink = p;
    free(sink);
}

/* One step of a longer wave: 100 calls fill, the next 100 empty; two steps are one pair. */
static void do_fill(void)
{
    static void *held[BATCH];
    static unsigned at;
    if (at < BATCH)
        held[at] = malloc(16);
    else
        free(held[at - BATCH]);
    at = at + 1 == 2 * BATCH ? 0 : at + 1;
}

static const struct operation {
    const char *name;
    void (*run)(void);
} operations[] = {{"empty", do_empty},     {"pair", do_pair},     {"pair256", do_pair256},
                  {"pair4k", do_pair4k},   {"calloc", do_calloc}, {"realloc", do_realloc},
                  {"aligned", do_aligned}, {"half-fill", do_fill}};

int main(int argc, char **argv)
{
    long count = argc > 2 ? atol(argv[2]) : 0;
    for (size_t i = 0; argc > 2 && i < sizeof(operations) / sizeof(operations[0]); i++) {
        if (strcmp(operations[i].name, argv[1])) continue;
        for (long k = 0; k < count; k++)
            operations[i].run();
        return 0;
    }
    fputs("usage: count_ops empty|pair|pair256|pair4k|calloc|realloc|aligned|half-fill COUNT\n",
          stderr);
    return 64;
}
