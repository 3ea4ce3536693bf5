/* malloc.c: cases about malloc, calloc and free: size, alignment, contents, errno. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <dlfcn.h>
#include <malloc.h>
#include <sys/uio.h>

/* Every class and its edges: all small sizes, then both sides of every power of two. */
static size_t size_after(size_t n)
{
    if (n < 1100) return n + 1;
    size_t power = (size_t)1 << (63 - __builtin_clzl(n));
    if (n == power) return n + 1;
    if (n == power + 1) return power + power / 4 + 3;
    return n == 2 * power - 1 ? 2 * power : 2 * power - 1;
}

CASE(malloc_sizes_hold_their_bytes, "a block holds the bytes asked for; C17 7.22.3.4")
{
    enum { KEPT = 64 };
    char *kept[KEPT] = {0};
    size_t sizes[KEPT] = {0};
    unsigned i = 0;
    for (size_t n = 1; n <= (size_t)33 << 20; n = size_after(n), i++) {
        unsigned at = i % KEPT;
        REQUIRE(pattern_holds(kept[at], sizes[at], at));
        free(kept[at]);
        kept[at] = malloc(n);
        sizes[at] = n;
        REQUIRE(kept[at]);
        pattern_fill(kept[at], n, at);
    }
    for (i = 0; i < KEPT; i++) {
        REQUIRE(pattern_holds(kept[i], sizes[i], i));
        free(kept[i]);
    }
}

CASE(malloc_aligned_to_16, "suitably aligned for any object, tiny ones too: "
                           "alignof(max_align_t) == 16; C17 7.22.3, x86-64 psABI 3.1.2")
{
    for (size_t n = 0; n <= (size_t)8 << 20; n = n == 0 ? 1 : size_after(n)) {
        void *m = malloc(n), *m2 = malloc(n), *c = calloc(1, n), *r = realloc(NULL, n);
        REQUIRE(m && m2 && c && r);
        REQUIRE(is_aligned(m, 16) && is_aligned(m2, 16) && is_aligned(c, 16) && is_aligned(r, 16));
        r = realloc(r, n + 9);
        REQUIRE(r && is_aligned(r, 16));
        free(m);
        free(m2);
        free(c);
        free(r);
    }
}

CASE(malloc_zero_is_unique_and_freeable,
     "malloc(0) returns a unique pointer free() takes; malloc(3)")
{
    void *p[500];
    for (int i = 0; i < 500; i++) {
        p[i] = malloc(0);
        REQUIRE(p[i] && is_aligned(p[i], 16));
        for (int j = 0; j < i; j++)
            REQUIRE(p[j] != p[i]);
    }
    for (int i = 0; i < 500; i++)
        free(p[i]);
    p[0] = calloc(0, 8);
    p[1] = calloc(8, 0);
    REQUIRE(p[0] && p[1] && p[0] != p[1]);
    free(p[0]);
    free(p[1]);
}

CASE(malloc_too_large_is_enomem, "sizes above PTRDIFF_MAX fail with ENOMEM; malloc(3) ERRORS")
{
    static const size_t sizes[] = {SIZE_MAX,
                                   SIZE_MAX - 1,
                                   SIZE_MAX - 15,
                                   SIZE_MAX - 16,
                                   SIZE_MAX - 4095,
                                   SIZE_MAX - 4096,
                                   SIZE_MAX - 8192,
                                   SIZE_MAX / 2 + 1,
                                   (size_t)PTRDIFF_MAX + 1,
                                   SIZE_MAX - (2 << 20),
                                   SIZE_MAX / 2 + 4096};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = hide_size(sizes[i]);
        errno = 0;
        REQUIRE(malloc(n) == NULL && errno == ENOMEM);
        errno = 0;
        REQUIRE(calloc(1, n) == NULL && errno == ENOMEM);
        errno = 0;
        REQUIRE(calloc(n, 1) == NULL && errno == ENOMEM);
        errno = 0;
        REQUIRE(realloc(NULL, n) == NULL && errno == ENOMEM);
        errno = 0;
        REQUIRE(reallocarray(NULL, 1, n) == NULL && errno == ENOMEM);
    }
}

CASE(malloc_unobtainable_is_enomem,
     "sizes the address space can't hold fail with ENOMEM; malloc(3)")
{
    static const size_t sizes[] = {PTRDIFF_MAX,     PTRDIFF_MAX - 4096,    SIZE_MAX / 4,
                                   (size_t)1 << 48, ((size_t)1 << 47) + 1, (size_t)1 << 47};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = hide_size(sizes[i]);
        errno = 0;
        REQUIRE(malloc(n) == NULL && errno == ENOMEM);
        errno = 0;
        REQUIRE(calloc(1, n) == NULL && errno == ENOMEM);
        void *p = malloc(100);
        REQUIRE(p);
        errno = 0;
        REQUIRE(realloc(p, n) == NULL && errno == ENOMEM);
        free(p);
    }
}

CASE(malloc_leaves_errno_alone, "success leaves errno as it was (glibc; POSIX allows no reliance)")
{
    for (size_t n = 1; n <= (size_t)64 << 20; n = size_after(n)) {
        errno = 12345;
        void *p = malloc(n);
        REQUIRE(errno == 12345);
        void *q = calloc(1, n < 100000 ? n : 100000);
        REQUIRE(errno == 12345);
        p = realloc(p, n + n / 2);
        REQUIRE(errno == 12345);
        free(p);
        free(q);
        REQUIRE(p && q && errno == 12345);
    }
}

CASE(free_leaves_errno_alone, "free() preserves errno; malloc(3), POSIX.1-2024")
{
    enum { COUNT = 3000 };
    static void *p[COUNT];
    for (size_t size = 16; size <= (size_t)1 << 20; size *= 16) {
        int count = size > 100000 ? 50 : COUNT;
        for (int i = 0; i < count; i++)
            REQUIRE(p[i] = malloc(size));
        for (int i = 0; i < count; i++) {
            errno = i;
            free(p[i]);
            REQUIRE(errno == i);
        }
    }
    errno = EBADF;
    void *huge = malloc((size_t)1 << 30);
    free(huge);
    free(NULL);
    REQUIRE(huge && errno == EBADF);
}

CASE(free_null_does_nothing, "free(NULL) is no operation; C17 7.22.3.3")
{
    for (int i = 0; i < 100; i++)
        free(NULL);
}

CASE(calloc_overflow_is_enomem, "calloc fails with ENOMEM when n * m does not fit; C17 7.22.3.2")
{
    static const size_t pairs[][2] = {{SIZE_MAX / 2 + 1, 2},
                                      {2, SIZE_MAX / 2 + 1},
                                      {(size_t)1 << 32, (size_t)1 << 32},
                                      {((size_t)1 << 32) + 1, ((size_t)1 << 32) - 1},
                                      {SIZE_MAX, SIZE_MAX},
                                      {SIZE_MAX / 16 + 2, 16},
                                      {((size_t)1 << 33) + 7, (size_t)1 << 31}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        size_t n = hide_size(pairs[i][0]), m = hide_size(pairs[i][1]);
        errno = 0;
        REQUIRE(calloc(n, m) == NULL && errno == ENOMEM);
        errno = 0;
        REQUIRE(reallocarray(NULL, n, m) == NULL && errno == ENOMEM);
        char *p = malloc(64);
        REQUIRE(p);
        pattern_fill(p, 64, 1);
        errno = 0;
        REQUIRE(reallocarray(p, n, m) == NULL && errno == ENOMEM && pattern_holds(p, 64, 1));
        free(p);
    }
}

CASE(calloc_is_zero_after_dirty_reuse, "calloc's memory is zero, reused or not; C17 7.22.3.2")
{
    for (size_t n = 1; n <= (size_t)4 << 20; n = size_after(n)) {
        enum { COUNT = 5 };
        void *p[COUNT];
        int count = n < (1 << 16) ? COUNT : 2;
        for (int round = 0; round < 3; round++) {
            for (int i = 0; i < count; i++) {
                p[i] = round == 1 ? malloc(n) : calloc(n % 2 ? 1 : 2, n % 2 ? n : n / 2);
                REQUIRE(p[i] && (round == 1 || all_zero(p[i], n)));
                memset(p[i], 0xA5, malloc_usable_size(p[i]));
            }
            for (int i = count; i-- > 0;)
                free(p[i]);
        }
    }
}

CASE(calloc_is_zero_after_realloc_and_memalign, "calloc clears what other entry points left dirty")
{
    for (size_t n = 8; n <= (size_t)4 << 20; n = n * 3 / 2) {
        void *grown = malloc(n), *aligned = memalign(4096, n);
        REQUIRE(grown && aligned);
        memset(grown, 0x5A, n);
        memset(aligned, 0x5A, n);
        grown = realloc(grown, n * 2);
        REQUIRE(grown);
        memset(grown, 0x5A, n * 2);
        grown = realloc(grown, n / 2);
        free(aligned);
        void *zero[4];
        for (int i = 0; i < 4; i++) {
            zero[i] = calloc(1, n + n / 2);
            REQUIRE(zero[i] && all_zero(zero[i], n + n / 2));
        }
        for (int i = 0; i < 4; i++)
            free(zero[i]);
        free(grown);
    }
}

CASE(usable_size_is_writable, "malloc_usable_size >= requested and all of it is the caller's; "
                              "malloc_usable_size(3)")
{
    enum { COUNT = 7 };
    for (size_t n = 0; n <= (size_t)16 << 20; n = n == 0 ? 1 : size_after(n)) {
        char *p[COUNT];
        size_t usable[COUNT];
        int count = n < 100000 ? COUNT : 2;
        for (int i = 0; i < count; i++) {
            p[i] = i % 2 ? calloc(1, n) : malloc(n);
            usable[i] = malloc_usable_size(p[i]);
            REQUIRE(usable[i] >= n && usable[i] == malloc_usable_size(p[i]));
            pattern_fill(p[i], usable[i], (unsigned)i);
        }
        for (int i = 0; i < count; i++) {
            REQUIRE(pattern_holds(p[i], usable[i], (unsigned)i));
            free(p[i]);
        }
    }
}

CASE(usable_size_of_null_is_zero, "malloc_usable_size(NULL) == 0; malloc_usable_size(3)")
{
    errno = 99;
    REQUIRE(malloc_usable_size(NULL) == 0 && errno == 99);
}

/* Reads memory that may be gone; what can't be read leaves `out` as it was. */
static void peek(const void *at, void *out, size_t size)
{
    struct iovec from = {(void *)(uintptr_t)at, size}, to = {out, size};
    (void)!process_vm_readv(getpid(), &to, 1, &from, 1, 0);
}

/* A heap that marks free slots by what it writes into them must not be fooled by a program that
 * holds the same bytes: copied from a freed block, out of a core file, or by chance. */
CASE(contents_may_look_like_a_freed_block,
     "a block may hold any bytes, also those the heap leaves in "
     "freed ones; C17 7.22.3")
{
    for (size_t n = 16; n <= (size_t)1 << 17; n = n * 2 + 8) {
        enum { COUNT = 40, SEEN = 64 };
        char *p[COUNT], seen[COUNT][SEEN] = {{0}};
        size_t look = n < SEEN ? n : SEEN;
        for (int round = 0; round < 20; round++) {
            for (int i = 0; i < COUNT; i++)
                REQUIRE(p[i] = malloc(n));
            for (int i = 0; i < COUNT; i++)
                if (round) memcpy(p[i], seen[(i + round / 2) % COUNT], look);
            for (int i = 0; i < COUNT; i++)
                REQUIRE(malloc_usable_size(p[i]) >= n);
            for (int i = 0; i < COUNT; i += 3)
                REQUIRE(p[i] = realloc(p[i], n));
            for (int i = 0; i < COUNT; i++) {
                free(p[i]);
                peek(p[i], seen[i], look);
            }
        }
    }
}

CASE(blocks_never_overlap, "live blocks are disjoint; C17 7.22.3")
{
    enum { COUNT = 20000 };
    static char *block[COUNT];
    static size_t size[COUNT];
    uint64_t state = 7;
    for (int i = 0; i < 400000; i++) {
        unsigned at = (unsigned)(random_next(&state) % COUNT);
        if (block[at]) {
            REQUIRE(pattern_holds(block[at], size[at], at));
            free(block[at]);
            block[at] = NULL;
            continue;
        }
        size[at] = random_next(&state) % (i % 50 ? 200 : i % 5000 ? 5000 : 300000);
        block[at] = malloc(size[at]);
        REQUIRE(block[at]);
        pattern_fill(block[at], size[at], at);
    }
    for (unsigned at = 0; at < COUNT; at++) {
        REQUIRE(!block[at] || pattern_holds(block[at], size[at], at));
        free(block[at]);
    }
}

CASE(cfree_is_absent_or_frees,
     "glibc offers no cfree to new programs since 2.26; one that is found "
     "must be this heap's; cfree(3)")
{
    void (*found)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "cfree");
    for (size_t n = 1; found && n <= (size_t)1 << 20; n *= 4)
        found(malloc(n));
}

/* A program linked before 2017 asks for exactly this version. */
__asm__(".symver old_cfree, cfree@GLIBC_2.2.5");
extern void old_cfree(void *);

CASE(cfree_of_an_old_program_frees, "cfree@GLIBC_2.2.5 frees what malloc gave; cfree(3) HISTORY")
{
    for (size_t n = 1; n <= (size_t)1 << 20; n *= 4) {
        void *p = malloc(n);
        REQUIRE(p);
        old_cfree(p);
    }
    old_cfree(NULL);
}

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void *__libc_valloc(size_t);
extern void *__libc_pvalloc(size_t);
extern void __libc_free(void *);

CASE(libc_prefixed_names_are_the_same_heap,
     "__libc_malloc and its kin, exported by glibc, mix with "
     "malloc and free")
{
    for (size_t n = 1; n <= (size_t)1 << 20; n *= 8) {
        free(__libc_malloc(n));
        free(__libc_calloc(1, n));
        free(__libc_memalign(64, n));
        free(__libc_valloc(n));
        free(__libc_pvalloc(n));
        void *p = __libc_realloc(malloc(n), 2 * n);
        REQUIRE(p && malloc_usable_size(p) >= 2 * n);
        __libc_free(realloc(p, n));
        p = __libc_malloc(n);
        REQUIRE(p && malloc_usable_size(p) >= n);
        __libc_free(p);
    }
}
