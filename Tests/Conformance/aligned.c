/* aligned.c: cases about posix_memalign, aligned_alloc, memalign, valloc and pvalloc. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <malloc.h>

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

CASE(posix_memalign_aligns,
     "any power-of-two multiple of sizeof(void *), any size; posix_memalign(3)")
{
    for (size_t alignment = 8; alignment <= (size_t)16 << 20; alignment *= 2) {
        char *kept[40];
        int count = 0;
        for (size_t n = 0; n <= (size_t)1 << 20; n = n * 2 + 5, count++) {
            void *p = NULL;
            REQUIRE(posix_memalign(&p, alignment, n) == 0 && p && is_aligned(p, alignment));
            REQUIRE(malloc_usable_size(p) >= n);
            pattern_fill(p, n, (unsigned)count);
            kept[count] = p;
        }
        size_t n = 0;
        for (int i = 0; i < count; i++, n = n * 2 + 5) {
            REQUIRE(pattern_holds(kept[i], n, (unsigned)i));
            free(kept[i]);
        }
    }
}

CASE(posix_memalign_rejects_bad_alignment, "EINVAL is returned, *memptr and errno are left alone; "
                                           "posix_memalign(3)")
{
    static const size_t bad[] = {0,
                                 1,
                                 2,
                                 3,
                                 4,
                                 5,
                                 7,
                                 9,
                                 12,
                                 20,
                                 24,
                                 48,
                                 100,
                                 4095,
                                 4097,
                                 3 << 20,
                                 SIZE_MAX,
                                 SIZE_MAX - 7,
                                 SIZE_MAX / 2 + 9};
    int mark;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        void *p = &mark;
        errno = 777;
        REQUIRE(posix_memalign(&p, hide_size(bad[i]), 64) == EINVAL && p == &mark && errno == 777);
    }
}

CASE(posix_memalign_reports_enomem,
     "ENOMEM is returned and *memptr is left alone; posix_memalign(3)")
{
    static const size_t sizes[] = {SIZE_MAX,        SIZE_MAX - 64,
                                   SIZE_MAX - 8192, (size_t)PTRDIFF_MAX + 1,
                                   PTRDIFF_MAX,     (size_t)1 << 48};
    int mark;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t alignment = 8; alignment <= (size_t)1 << 40; alignment *= 16) {
            void *p = &mark;
            REQUIRE(posix_memalign(&p, alignment, hide_size(sizes[i])) == ENOMEM && p == &mark);
        }
    }
    void *p = &mark;
    REQUIRE(posix_memalign(&p, hide_size((size_t)1 << 63), 64) == ENOMEM && p == &mark);
}

CASE_OURS(posix_memalign_enomem_leaves_errno, "errno is not set by a failure; posix_memalign(3) "
                                              "(glibc 2.36 sets it nevertheless)")
{
    void *p;
    errno = 777;
    REQUIRE(posix_memalign(&p, 64, hide_size(PTRDIFF_MAX)) == ENOMEM && errno == 777);
    REQUIRE(posix_memalign(&p, 64, hide_size(SIZE_MAX)) == ENOMEM && errno == 777);
    REQUIRE(posix_memalign(&p, 64, hide_size((size_t)1 << 48)) == ENOMEM && errno == 777);
}

CASE(posix_memalign_success_leaves_errno, "errno is not set; posix_memalign(3)")
{
    for (size_t alignment = 8; alignment <= (size_t)4 << 20; alignment *= 2) {
        void *p;
        errno = 777;
        REQUIRE(posix_memalign(&p, alignment, 3 * alignment) == 0 && errno == 777);
        free(p);
        REQUIRE(errno == 777);
    }
}

CASE(memalign_rounds_alignment_up, "an alignment that is no power of two is rounded up to the next "
                                   "(glibc); 0 serves too; posix_memalign(3)")
{
    static const size_t alignments[][2] = {
        {0, 16},    {1, 16},      {2, 16},      {3, 16},      {7, 16},
        {17, 32},   {24, 32},     {33, 64},     {48, 64},     {65, 128},
        {100, 128}, {4095, 4096}, {4097, 8192}, {5000, 8192}, {(3 << 20) + 1, 4 << 20}};
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++) {
        for (size_t n = 1; n < 100000; n *= 7) {
            char *p = memalign(alignments[i][0], n), *q = aligned_alloc(alignments[i][0], n);
            REQUIRE(p && q && is_aligned(p, alignments[i][1]) && is_aligned(q, alignments[i][1]));
            memset(p, 1, n);
            memset(q, 2, n);
            REQUIRE(p[0] == 1 && p[n - 1] == 1 && q[0] == 2 && q[n - 1] == 2);
            free(p);
            free(q);
        }
    }
}

CASE(memalign_rejects_impossible_alignment, "no power of two >= alignment: EINVAL (glibc)")
{
    errno = 0;
    REQUIRE(memalign(hide_size(SIZE_MAX / 2 + 2), 10) == NULL && errno == EINVAL);
    errno = 0;
    REQUIRE(aligned_alloc(hide_size(SIZE_MAX), 10) == NULL && errno == EINVAL);
}

CASE(memalign_too_large_is_enomem, "what can't be met fails with ENOMEM; posix_memalign(3) ERRORS")
{
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 4096, (size_t)PTRDIFF_MAX + 1, PTRDIFF_MAX,
                                   (size_t)1 << 48};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = hide_size(sizes[i]);
        for (size_t alignment = 8; alignment <= (size_t)1 << 30; alignment *= 8) {
            errno = 0;
            REQUIRE(memalign(alignment, n) == NULL && errno == ENOMEM);
            errno = 0;
            REQUIRE(aligned_alloc(alignment, n) == NULL && errno == ENOMEM);
        }
        errno = 0;
        REQUIRE(valloc(n) == NULL && errno == ENOMEM);
        errno = 0;
        REQUIRE(pvalloc(n) == NULL && errno == ENOMEM);
    }
    errno = 0;
    REQUIRE(memalign(hide_size((size_t)1 << 62), 1) == NULL && errno == ENOMEM);
}

CASE(aligned_alloc_takes_any_size, "size need not be a multiple of alignment (C17 DR 460, glibc)")
{
    for (size_t alignment = 16; alignment <= (size_t)1 << 20; alignment *= 4) {
        for (size_t n = 0; n < 3 * alignment; n += alignment / 4 + 1) {
            void *p = aligned_alloc(alignment, n);
            REQUIRE(p && is_aligned(p, alignment) && malloc_usable_size(p) >= n);
            free(p);
        }
    }
}

CASE(valloc_gives_pages, "valloc aligns to the page; valloc(0) is unique and freeable; valloc(3)")
{
    for (size_t n = 0; n < (size_t)1 << 22; n = n * 2 + 1) {
        void *p = valloc(n), *q = valloc(n);
        REQUIRE(p && q && p != q && is_aligned(p, page_size()) && is_aligned(q, page_size()));
        REQUIRE(malloc_usable_size(p) >= n);
        memset(p, 1, n);
        memset(q, 2, n);
        free(p);
        free(q);
    }
}

CASE(pvalloc_rounds_to_pages,
     "pvalloc aligns to the page and rounds the size up to pages; pvalloc(3)")
{
    for (size_t n = 1; n < (size_t)1 << 22; n = n * 2 + 1) {
        char *p = pvalloc(n), *q = pvalloc(n);
        size_t rounded = (n + page_size() - 1) & ~(page_size() - 1);
        REQUIRE(p && q && p != q && is_aligned(p, page_size()) && is_aligned(q, page_size()));
        REQUIRE(malloc_usable_size(p) >= rounded);
        pattern_fill(p, rounded, 1);
        pattern_fill(q, rounded, 2);
        REQUIRE(pattern_holds(p, rounded, 1));
        free(p);
        free(q);
    }
    void *zero = pvalloc(0), *other = pvalloc(0);
    REQUIRE(zero && other && zero != other && is_aligned(zero, page_size()));
    free(zero);
    free(other);
}

CASE(pvalloc_overflow_is_enomem, "rounding up to pages does not wrap around to 0; pvalloc(3)")
{
    for (size_t back = 0; back < 2 * page_size(); back += 511) {
        errno = 0;
        REQUIRE(pvalloc(hide_size(SIZE_MAX - back)) == NULL && errno == ENOMEM);
    }
}

CASE(huge_alignments, "alignments of 1 MiB to 1 GiB are met; posix_memalign(3)")
{
    for (size_t alignment = (size_t)1 << 20; alignment <= (size_t)1 << 30; alignment *= 4) {
        char *p[6];
        for (int i = 0; i < 6; i++) {
            size_t n = i % 2 ? 100 : (size_t)3 << 20;
            p[i] = memalign(alignment, n);
            REQUIRE(p[i] && is_aligned(p[i], alignment));
            pattern_fill(p[i], n, (unsigned)i);
        }
        for (int i = 0; i < 6; i++) {
            REQUIRE(pattern_holds(p[i], i % 2 ? 100 : (size_t)3 << 20, (unsigned)i));
            free(p[i]);
        }
    }
}

CASE_OURS(aligned_blocks_do_not_waste_double,
          "64 MiB in aligned blocks of one size and alignment stay "
          "below 1.6 times that resident (glibc: double)")
{
    for (size_t alignment = 32; alignment <= (size_t)1 << 20; alignment *= 4) {
        size_t total = (size_t)64 << 20, count = total / alignment;
        char **p = malloc(count * sizeof *p);
        REQUIRE(p);
        memset(p, 0, count * sizeof *p);
        size_t before = resident_bytes();
        for (size_t i = 0; i < count; i++) {
            p[i] = memalign(alignment, alignment);
            REQUIRE(p[i] && is_aligned(p[i], alignment));
            memset(p[i], 1, alignment);
        }
        size_t after = resident_bytes();
        REQUIRE(alignment < 128 || after < before + total / 10 * 16);
        for (size_t i = 0; i < count; i++)
            free(p[i]);
        free(p);
        malloc_trim(0);
    }
}

CASE(aligned_usable_range_is_writable, "the usable range of aligned blocks is the caller's alone")
{
    enum { COUNT = 50 };
    for (size_t alignment = 8; alignment <= (size_t)1 << 17; alignment *= 4) {
        for (size_t n = 1; n < 200000; n = n * 5 + 1) {
            char *p[COUNT];
            for (unsigned i = 0; i < COUNT; i++) {
                p[i] = memalign(alignment, n + i);
                REQUIRE(p[i] && malloc_usable_size(p[i]) >= n + i);
                pattern_fill(p[i], malloc_usable_size(p[i]), i);
            }
            for (unsigned i = 0; i < COUNT; i++) {
                REQUIRE(pattern_holds(p[i], malloc_usable_size(p[i]), i));
                free(p[i]);
            }
        }
    }
}
