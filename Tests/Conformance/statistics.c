/* statistics.c: cases about mallinfo(2), malloc_info, malloc_stats, mallopt, malloc_trim. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>

/* mallinfo is deprecated and still called by many. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

enum { MIB = 1 << 20 };

static size_t in_use(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* Allocates `count` touched blocks, requires mallinfo2 to see them come and go. */
static void require_counted(size_t size, size_t count)
{
    char **p = malloc(count * sizeof *p);
    REQUIRE(p);
    memset(p, 0, count * sizeof *p);
    size_t total = size * count, before = in_use();
    for (size_t i = 0; i < count; i++)
        REQUIRE(p[i] = malloc(size));
    size_t grown = in_use();
    REQUIRE(grown >= before + total && grown <= before + total * 2 + MIB);
    for (size_t i = 0; i < count; i++)
        free(p[i]);
    /* A cache may hold a few. */
    REQUIRE(in_use() <= before + MIB + (total < 4 * MIB ? total / 4 : 0));
    free(p);
}

CASE(mallinfo2_counts_blocks,
     "uordblks and hblkhd grow and fall with what is allocated; mallinfo(3)")
{
    require_counted(40, 100000);
    require_counted(3000, 5000);
    require_counted(20000, 1000);
    require_counted((size_t)200 << 10, 100);
    require_counted((size_t)64 << 20, 3);
}

CASE(mallinfo2_adds_up, "arena = uordblks + fordblks; usmblks and fsmblks stay 0; mallinfo(3)")
{
    void *keep[2000];
    for (int i = 0; i < 2000; i++)
        keep[i] = malloc((size_t)i * 11);
    for (int i = 0; i < 2000; i += 2)
        free(keep[i]);
    struct mallinfo2 info = mallinfo2();
    REQUIRE(info.uordblks > 0 && info.uordblks <= info.arena);
    REQUIRE(info.arena == info.uordblks + info.fordblks);
    REQUIRE(info.usmblks == 0 && info.keepcost <= info.arena);
    REQUIRE((info.hblks == 0) == (info.hblkhd == 0));
    for (int i = 1; i < 2000; i += 2)
        free(keep[i]);
}

CASE(mallinfo2_exceeds_32_bits, "mallinfo2 counts beyond 4 GiB, mallinfo wraps; mallinfo(3)")
{
    size_t before = in_use();
    void *p = malloc((size_t)5 << 30);
    if (!p) SKIP("5 GiB of address space can't be had");
    REQUIRE(in_use() - before >= (size_t)5 << 30);
    (void)mallinfo();
    free(p);
    REQUIRE(in_use() < before + MIB);
}

CASE(mallinfo_is_mallinfo2_in_int, "mallinfo's fields are mallinfo2's, cut to int; mallinfo(3)")
{
    void *p = malloc(10 * MIB), *q = malloc(1000);
    struct mallinfo2 wide = mallinfo2();
    struct mallinfo narrow = mallinfo();
    REQUIRE(narrow.uordblks == (int)wide.uordblks && narrow.hblkhd == (int)wide.hblkhd);
    REQUIRE(narrow.arena == (int)wide.arena && narrow.hblks == (int)wide.hblks);
    REQUIRE(narrow.fordblks == (int)wide.fordblks);
    free(p);
    free(q);
}

/* Just enough XML: tags nest, attributes are quoted. */
static bool is_well_formed(const char *text)
{
    const char *open[64];
    int depth = 0, elements = 0;
    for (const char *at = text; (at = strchr(at, '<')); at++) {
        const char *name = at + 1, *end = strchr(at, '>');
        if (!end) return false;
        int quotes = 0;
        for (const char *c = at; c < end; c++)
            quotes += *c == '"';
        if (quotes % 2) return false;
        if (*name == '?' || *name == '!') continue;
        size_t length = strcspn(name + (*name == '/'), " />\n\t");
        if (*name == '/') {
            if (depth-- == 0 || strncmp(open[depth], name + 1, length) != 0) return false;
        } else if (end[-1] != '/') {
            if (depth == 64) return false;
            open[depth++] = name;
        }
        elements++;
    }
    return depth == 0 && elements > 0;
}

CASE(malloc_info_writes_xml, "malloc_info(0, f) writes a <malloc> document; malloc_info(3)")
{
    char *text = NULL;
    size_t size = 0;
    void *keep = malloc(12345);
    FILE *stream = open_memstream(&text, &size);
    REQUIRE(stream && malloc_info(0, stream) == 0);
    REQUIRE(fclose(stream) == 0 && text && size > 20);
    REQUIRE(strncmp(text, "<malloc version=\"", 17) == 0 && is_well_formed(text));
    REQUIRE(strstr(text, "</malloc>"));
    free(text);
    free(keep);
}

CASE(malloc_info_rejects_options, "options other than 0: not 0; malloc_info(3)")
{
    FILE *stream = fopen("/dev/null", "w");
    REQUIRE(stream);
    REQUIRE(malloc_info(1, stream) != 0 && malloc_info(-1, stream) != 0);
    fclose(stream);
}

CASE(malloc_stats_writes_to_stderr, "malloc_stats prints on stderr only; malloc_stats(3)")
{
    FILE *out = tmpfile(), *err = tmpfile();
    REQUIRE(out && err);
    int saved[2] = {dup(1), dup(2)};
    void *keep = malloc(1000);
    fflush(NULL);
    dup2(fileno(out), 1);
    dup2(fileno(err), 2);
    malloc_stats();
    fflush(NULL);
    dup2(saved[0], 1);
    dup2(saved[1], 2);
    REQUIRE(lseek(fileno(out), 0, SEEK_END) == 0);
    REQUIRE(lseek(fileno(err), 0, SEEK_END) > 0);
    free(keep);
}

CASE(mallopt_takes_the_known_parameters, "1 for success; mallopt(3)")
{
    static const int settings[][2] = {{M_MMAP_THRESHOLD, 1 << 20},
                                      {M_MMAP_THRESHOLD, 0},
                                      {M_TRIM_THRESHOLD, 1 << 20},
                                      {M_TOP_PAD, 1 << 16},
                                      {M_MMAP_MAX, 100},
                                      {M_ARENA_MAX, 1},
                                      {M_ARENA_TEST, 2},
                                      {M_CHECK_ACTION, 3},
                                      {M_MXFAST, 64},
                                      {M_MXFAST, 0},
                                      {M_TRIM_THRESHOLD, -1},
                                      {M_MMAP_MAX, 0}};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        REQUIRE(mallopt(settings[i][0], settings[i][1]) == 1);
        for (size_t n = 1; n < 4 * MIB; n *= 4) {
            char *p = malloc(n);
            REQUIRE(p);
            memset(p, 1, n);
            free(p);
        }
    }
}

CASE(mallopt_unknown_parameter_is_harmless, "a parameter nobody knows changes nothing; mallopt(3)")
{
    errno = 5;
    (void)mallopt(12345, 1);
    (void)mallopt(INT_MIN, INT_MAX);
    void *p = malloc(100);
    REQUIRE(p && errno == 5);
    free(p);
}

CASE(malloc_trim_returns_0_or_1, "1 if memory went back, else 0; malloc_trim(3)")
{
    for (int round = 0; round < 20; round++) {
        void *p = malloc(1000u * (unsigned)round + 1);
        int trimmed = malloc_trim((size_t)round * 100000);
        REQUIRE(trimmed == 0 || trimmed == 1);
        free(p);
    }
}

CASE(malloc_trim_gives_memory_back, "freed memory goes back and 1 is returned; malloc_trim(3)")
{
    enum { COUNT = 200000 };
    static char *p[COUNT];
    memset(p, 0, sizeof p);
    size_t before = resident_bytes();
    for (int i = 0; i < COUNT; i++) {
        REQUIRE(p[i] = malloc(500));
        memset(p[i], 1, 500);
    }
    /* One block in a thousand stays: the top of no heap is free. */
    for (int i = 0; i < COUNT; i++)
        if (i % 1000) free(p[i]);
    REQUIRE(malloc_trim(0) == 1);
    REQUIRE(resident_bytes() < before + 20 * MIB);
    for (int i = 0; i < COUNT; i += 1000)
        free(p[i]);
}

static void *churn_until_told(void *stop)
{
    void *p[64] = {0};
    for (unsigned i = 0; !*(volatile bool *)stop; i++) {
        free(p[i % 64]);
        p[i % 64] = malloc(i * 31 % (i % 100 ? 2000 : 200000));
        REQUIRE(p[i % 64]);
    }
    for (int i = 0; i < 64; i++)
        free(p[i]);
    return NULL;
}

CASE(statistics_while_others_allocate,
     "mallinfo2, malloc_info, malloc_trim and mallopt are MT-Safe; "
     "mallinfo(3), malloc_trim(3) ATTRIBUTES")
{
    static volatile bool stop;
    pthread_t thread[3];
    FILE *null = fopen("/dev/null", "w");
    REQUIRE(null);
    for (int i = 0; i < 3; i++)
        REQUIRE(pthread_create(&thread[i], NULL, churn_until_told, (void *)(uintptr_t)&stop) == 0);
    for (int i = 0; i < 300; i++) {
        struct mallinfo2 info = mallinfo2();
        REQUIRE(info.uordblks < (size_t)1 << 40 && malloc_info(0, null) == 0);
        (void)malloc_trim(0);
        (void)mallopt(M_TRIM_THRESHOLD, i * 1000);
    }
    stop = true;
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    fclose(null);
}

CASE(statistics_survive_a_full_disk, "malloc_info to a stream that can't be written is no crash")
{
    FILE *full = fopen("/dev/full", "w");
    if (!full) SKIP("no /dev/full");
    (void)malloc_info(0, full);
    fclose(full);
    void *p = malloc(100);
    REQUIRE(p);
    free(p);
}
