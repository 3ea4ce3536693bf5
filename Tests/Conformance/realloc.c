/* realloc.c: cases about realloc and reallocarray. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <malloc.h>
#include <sys/resource.h>
#include <time.h>

CASE(realloc_null_is_malloc, "realloc(NULL, n) is malloc(n), also for n == 0; C17 7.22.3.5")
{
    for (size_t n = 0; n <= (size_t)64 << 20; n = n * 2 + 1) {
        void *p = realloc(NULL, n);
        REQUIRE(p && malloc_usable_size(p) >= n && is_aligned(p, 16));
        memset(p, 1, n);
        free(p);
    }
    void *p = reallocarray(NULL, 0, 10);
    REQUIRE(p);
    free(p);
}

CASE(realloc_zero_frees_and_returns_null, "realloc(p, 0) is free(p), errno untouched; malloc(3)")
{
    size_t before = resident_bytes();
    for (size_t n = 1; n <= (size_t)64 << 20; n *= 4) {
        for (size_t done = 0; done < (size_t)256 << 20; done += n < (1 << 20) ? 1 << 20 : n) {
            void *p = malloc(n);
            REQUIRE(p);
            memset(p, 1, n < 4096 ? n : 4096);
            errno = 4711;
            REQUIRE(realloc(p, hide_size(0)) == NULL && errno == 4711);
        }
    }
    for (int i = 0; i < 300000; i++)
        REQUIRE(realloc(malloc(1000), hide_size(0)) == NULL);
    for (int i = 0; i < 1000; i++)
        REQUIRE(reallocarray(malloc(1000), 0, 7) == NULL);
    /* Leaked, the blocks of the loop before would be 300 MB. */
    REQUIRE(resident_bytes() < before + ((size_t)100 << 20));
}

/* Contents survive every change of size; `make` decides how the first block is made. */
static void walk_sizes(void *(*make)(size_t))
{
    static const size_t sizes[] = {1,       15,      16,
                                   17,      40,      64,
                                   100,     129,     500,
                                   1024,    1025,    4000,
                                   4096,    5000,    9000,
                                   16384,   33000,   65536,
                                   70000,   131072,  200000,
                                   262144,  1 << 20, (1 << 20) + 1,
                                   3 << 20, 8 << 20, (20 << 20) + 123};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    for (int from = 0; from < COUNT; from++) {
        for (int to = 0; to < COUNT; to++) {
            char *p = make(sizes[from]);
            REQUIRE(p);
            pattern_fill(p, sizes[from], 3);
            p = realloc(p, sizes[to]);
            REQUIRE(p && is_aligned(p, 16) && malloc_usable_size(p) >= sizes[to]);
            size_t kept = sizes[from] < sizes[to] ? sizes[from] : sizes[to];
            REQUIRE(pattern_holds(p, kept, 3));
            pattern_fill(p, malloc_usable_size(p), 4);
            free(p);
        }
    }
}

static void *make_aligned(size_t size)
{
    static unsigned turn;
    return memalign((size_t)32 << turn++ % 16, size);
}

CASE(realloc_keeps_contents, "contents are kept up to the lesser of both sizes; C17 7.22.3.5")
{
    walk_sizes(malloc);
}

CASE(realloc_keeps_contents_of_aligned_blocks, "blocks of memalign may be given to realloc; "
                                               "posix_memalign(3)")
{
    walk_sizes(make_aligned);
}

CASE(realloc_keeps_contents_of_zero_pages, "untouched pages of calloc stay zero through realloc")
{
    for (size_t n = 4096; n <= (size_t)64 << 20; n *= 4) {
        char *p = calloc(1, n);
        REQUIRE(p);
        p[n - 1] = 7;
        p = realloc(p, 2 * n);
        REQUIRE(p && all_zero(p, n - 1) && p[n - 1] == 7);
        p = realloc(p, n / 2);
        REQUIRE(p && all_zero(p, n / 2));
        free(p);
    }
}

CASE(realloc_huge_grows_and_shrinks, "huge blocks keep contents through many sizes (mremap paths)")
{
    size_t n = (size_t)1 << 20;
    char *p = malloc(n);
    REQUIRE(p);
    pattern_fill(p, n, 9);
    char *guards[64];
    for (int i = 0; i < 64; i++) {
        size_t larger = n + n / 8 + 4096u * (unsigned)i;
        p = realloc(p, larger);
        REQUIRE(p && pattern_holds(p, 1 << 20, 9));
        p[larger - 1] = (char)i;
        guards[i] = malloc((size_t)200 << 10);
        REQUIRE(guards[i]);
        memset(guards[i], 0x77, (size_t)200 << 10);
        n = larger < (size_t)200 << 20 ? larger : (size_t)1 << 20;
        if (n < larger) REQUIRE(p = realloc(p, n));
    }
    for (int i = 0; i < 64; i++)
        free(guards[i]);
    p = realloc(p, 100);
    REQUIRE(p && pattern_holds(p, 100, 9));
    free(p);
}

CASE(realloc_failure_keeps_the_block, "when realloc fails the old block is unchanged; C17 7.22.3.5")
{
    for (size_t n = 1; n <= (size_t)16 << 20; n *= 4) {
        char *p = malloc(n);
        REQUIRE(p);
        pattern_fill(p, n, 5);
        for (size_t bad = SIZE_MAX; bad > (size_t)1 << 46; bad = bad / 3 * 2) {
            errno = 0;
            REQUIRE(realloc(p, hide_size(bad)) == NULL && errno == ENOMEM);
            REQUIRE(pattern_holds(p, n, 5) && malloc_usable_size(p) >= n);
        }
        free(p);
    }
}

CASE(realloc_failure_under_a_limit_keeps_the_block, "the same when the kernel refuses; malloc(3)")
{
    size_t n = (size_t)20 << 20;
    char *p = malloc(n), *small = malloc(5000);
    REQUIRE(p && small);
    pattern_fill(p, n, 5);
    pattern_fill(small, 5000, 6);
    struct rlimit limit = {address_space_bytes() + (30 << 20), RLIM_INFINITY};
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    errno = 0;
    REQUIRE(realloc(p, 10 * n) == NULL && errno == ENOMEM);
    errno = 0;
    REQUIRE(realloc(small, 10 * n) == NULL && errno == ENOMEM);
    REQUIRE(pattern_holds(p, n, 5) && pattern_holds(small, 5000, 6));
    p = realloc(p, n / 2);
    REQUIRE(p && pattern_holds(p, n / 2, 5));
    free(p);
    free(small);
}

CASE(realloc_by_one_byte_to_1_mib, "growth in steps of one byte keeps contents and does not crawl")
{
    clock_t start = clock();
    char *p = NULL;
    for (size_t n = 1; n <= (size_t)1 << 20; n++) {
        p = realloc(p, n);
        REQUIRE(p);
        p[n - 1] = (char)(n * 31);
    }
    for (size_t n = 1; n <= (size_t)1 << 20; n++)
        REQUIRE(p[n - 1] == (char)(n * 31));
    for (size_t n = (size_t)1 << 20; n > 1; n -= 37 < n - 1 ? 37 : n - 1) {
        p = realloc(p, n);
        REQUIRE(p && p[n - 1] == (char)(n * 31));
    }
    free(p);
    /* Half a second of processor; a copy at each step would take minutes. */
    REQUIRE(clock() - start < 30 * (clock_t)CLOCKS_PER_SEC);
}

CASE(realloc_gives_memory_back,
     "a block shrunk from 64 MiB to 64 bytes does not keep 64 MiB resident")
{
    enum { COUNT = 8 };
    char *p[COUNT];
    size_t before = resident_bytes(), n = (size_t)64 << 20;
    for (int i = 0; i < COUNT; i++) {
        p[i] = malloc(n);
        REQUIRE(p[i]);
        memset(p[i], 1, n);
        p[i] = realloc(p[i], 64);
        REQUIRE(p[i]);
    }
    for (int round = 0; round < 300 && resident_bytes() >= before + 3 * n; round++) {
        sleep_milliseconds(50);
        for (int i = 0; i < 1000; i++)
            free(malloc(1000));
    }
    REQUIRE(resident_bytes() < before + 3 * n);
    for (int i = 0; i < COUNT; i++)
        free(p[i]);
}

CASE(reallocarray_scales, "reallocarray(p, n, m) is realloc(p, n * m); malloc(3)")
{
    int *p = NULL;
    for (size_t n = 1; n < 100000; n = n * 3 / 2 + 1) {
        p = reallocarray(p, n, sizeof *p);
        REQUIRE(p && malloc_usable_size(p) >= n * sizeof *p);
        p[n - 1] = (int)n;
        for (size_t at = 1; at <= n; at = at * 3 / 2 + 1)
            REQUIRE(p[at - 1] == (int)at);
    }
    free(p);
}

/* Many arrays that grew a little and then no more cost what they hold. */
static void grow_many(size_t count, size_t size)
{
    size_t before = resident_bytes();
    char ***all = calloc(count, sizeof(*all));
    REQUIRE(all);
    for (size_t i = 0; i < count; i++) {
        char *p = malloc(16);
        for (size_t n = 24; n < size; n += n / 2)
            REQUIRE(p = realloc(p, n));
        REQUIRE(p = realloc(p, size));
        memset(p, (int)i, size);
        all[i] = (char **)p;
    }
    size_t live = count * (size + sizeof(*all)), most = live + live / 5 + ((size_t)4 << 20);
    if (resident_bytes() > before + most)
        dprintf(2, "%zu of %zu: %zu KiB;", count, size, (resident_bytes() - before) >> 10);
    REQUIRE(resident_bytes() <= before + most);
    for (size_t i = 0; i < count; i++)
        free(all[i]);
    free(all);
}

CASE(realloc_of_many_wastes_little, "arrays that grew to a size cost little more than it")
{
    grow_many(100000, 600);
    grow_many(20000, 3000);
    grow_many(10000, 7000);
}
