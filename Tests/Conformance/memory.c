/* memory.c: cases about memory that goes back, without timing: RSS after freeing, under churn and
 * with holes. The bounds are generous; what they catch is memory that never comes back. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

/* Pointers to the blocks, in a mapping of their own so that they are no part of the heap. */
static void **table(size_t count)
{
    void **p =
        mmap(NULL, count * sizeof *p, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(p != MAP_FAILED);
    memset(p, 0, count * sizeof *p);
    return p;
}

/* What a program does after a peak, allocating and freeing a little now and then, until its RSS is
 * at most that. It gets there in a second and a half; rounds are counted rather than time, so that
 * a slow machine has as many. */
static void require_return_to(size_t most)
{
    size_t peak = resident_bytes(), now = peak;
    uint64_t state = 1;
    for (int round = 0; round < 1000 && (now = resident_bytes()) > most; round++) {
        for (int i = 0; i < 2000; i++)
            free(malloc(random_next(&state) % 3000));
        free(malloc(100000));
        sleep_milliseconds(10);
    }
    if (now > most) dprintf(2, "RSS %zu KiB, now %zu, not %zu;", peak >> 10, now >> 10, most >> 10);
    REQUIRE(now <= most);
}

static void require_near(size_t before)
{
    require_return_to(before + before / 20 + 8 * MIB);
}

static void peak_and_return(size_t smallest, size_t largest, size_t total)
{
    size_t count = 2 * total / (smallest + largest);
    void **p = table(count);
    size_t before = resident_bytes();
    uint64_t state = 11;
    for (size_t i = 0; i < count; i++) {
        size_t n = smallest + random_next(&state) % (largest - smallest + 1);
        REQUIRE(p[i] = malloc(n));
        memset(p[i], 1, n);
    }
    REQUIRE(resident_bytes() > before + total / 10 * 8);
    for (size_t i = 0; i < count; i++)
        free(p[i]);
    /* Tracing keeps eight bytes for each slot that was ever traced. */
    if (getenv("MEMCTL_TRACE"))
        require_near(before + 8 * count);
    else
        require_return_to(before + before / 20 + 2 * MIB);
}

CASE_OURS(small_memory_goes_back, "1 GiB in blocks up to 1 KiB, freed: RSS is near the start after "
                                  "some activity")
{
    peak_and_return(16, 1024, GIB);
}

CASE_OURS(medium_memory_goes_back, "the same in blocks of 1 to 64 KiB")
{
    peak_and_return(1024, 65536, GIB);
}

CASE_OURS(large_memory_goes_back, "the same in blocks of 64 KiB to 8 MiB")
{
    peak_and_return(65536, 8 * MIB, GIB);
}

static void *peak_in_thread(void *unused)
{
    enum { COUNT = 100000 };
    void **p = table(COUNT);
    for (int i = 0; i < COUNT; i++) {
        REQUIRE(p[i] = malloc(600));
        memset(p[i], 1, 600);
    }
    for (int i = 0; i < COUNT; i++)
        free(p[i]);
    munmap(p, COUNT * sizeof *p);
    return unused;
}

CASE_OURS(memory_of_ended_threads_goes_back, "what a thread freed before it ended goes back too")
{
    free(malloc(1));
    size_t before = resident_bytes();
    for (int i = 0; i < 5; i++)
        run_thread(peak_in_thread, NULL, 0);
    require_near(before);
}

static void **remote;
enum { REMOTE = 100000 };

static void *free_remote(void *unused)
{
    for (int i = 0; i < REMOTE; i++)
        free(remote[i]);
    return unused;
}

CASE_OURS(remotely_freed_memory_goes_back, "what another thread freed goes back")
{
    remote = table(REMOTE);
    size_t before = resident_bytes();
    for (int i = 0; i < REMOTE; i++) {
        REQUIRE(remote[i] = malloc(1500));
        memset(remote[i], 1, 1500);
    }
    run_thread(free_remote, NULL, 0);
    require_near(before);
}

static void *free_remote_and_go_on(void *before)
{
    free_remote(NULL);
    require_near(*(size_t *)before);
    return NULL;
}

CASE_OURS(memory_of_waiting_threads_goes_back,
          "what another thread freed goes back while its maker waits")
{
    remote = table(REMOTE);
    size_t before = resident_bytes();
    for (int i = 0; i < REMOTE; i++) {
        REQUIRE(remote[i] = malloc(1500));
        memset(remote[i], 1, 1500);
    }
    run_thread(free_remote_and_go_on, &before, 0);
}

CASE(scattered_memory_goes_back, "pages between 1 % of blocks that stay go back: RSS < live + 25 %")
{
    enum { COUNT = 200000, PART = COUNT / 100 };
    void **p = table(COUNT);
    size_t before = resident_bytes();
    for (int i = 0; i < COUNT; i++) {
        REQUIRE(p[i] = malloc(2000));
        memset(p[i], 1, 2000);
    }
    for (int i = 0; i < COUNT; i++)
        if (i % 100) free(p[i]);
    malloc_trim(0);
    /* Each block that stays pins one page or two, of 400 MB in all. */
    require_return_to(before + 100 * MIB);
    for (int i = 0; i < PART; i++)
        free(p[i * 100]);
}

/* Sizes as programs have them: mostly small, some medium, few large. */
static size_t random_size(uint64_t *state)
{
    uint64_t r = random_next(state);
    unsigned log = 4 + (unsigned)(r % 4 + (r >> 8) % 4 + (r >> 16) % 4);
    if (r >> 24 & 127) return ((size_t)1 << log) + (r >> 32) % ((size_t)1 << log);
    return 20000 + (r >> 32) % 200000;
}

CASE(churn_stays_bounded, "random churn with 100 MB live keeps RSS below 2.5 times the live bytes")
{
    enum { COUNT = 400000, STEPS = 4000000 };
    void **p = table(COUNT);
    uint64_t state = 3;
    size_t live = 0, before = resident_bytes(), worst = 0;
    for (int i = 0; i < STEPS; i++) {
        size_t at = random_next(&state) % COUNT;
        if (p[at]) live -= malloc_usable_size(p[at]);
        free(p[at]);
        p[at] = NULL;
        if (live >= 100 * MIB) continue;
        REQUIRE(p[at] = malloc(random_size(&state)));
        live += malloc_usable_size(p[at]);
        memset(p[at], 1, malloc_usable_size(p[at]));
        if (i % 100000 || live < 50 * MIB) continue;
        size_t now = resident_bytes(), grown = now > before ? now - before : 0;
        if (grown * 100 / live > worst) worst = grown * 100 / live;
    }
    if (worst >= 250) dprintf(2, "RSS / live is %zu %%;", worst);
    REQUIRE(worst < 250);
}

CASE(drifting_sizes_stay_bounded, "blocks whose sizes drift from 16 B to 8 KiB: what one size used "
                                  "serves the next")
{
    enum { COUNT = 20000 };
    void **p = table(COUNT);
    size_t before = resident_bytes(), worst = 0;
    for (size_t n = 16; n <= 8192; n += n / 8 + 1) {
        for (int i = 0; i < COUNT; i++) {
            free(p[i]);
            size_t size = n < 1000 ? n * 4 : n;
            REQUIRE(p[i] = malloc(size));
            memset(p[i], 1, size);
        }
        size_t now = resident_bytes();
        if (now > before + worst) worst = now - before;
    }
    /* Live are at most 164 MB. */
    REQUIRE(worst < 164 * MIB * 5 / 2);
    for (int i = 0; i < COUNT; i++)
        free(p[i]);
}

CASE(realloc_growth_stays_bounded,
     "a vector grown by 1.5 to 128 MiB five times holds no old copies")
{
    size_t before = resident_bytes();
    for (int round = 0; round < 5; round++) {
        char *p = NULL;
        size_t n = 16, filled = 0;
        while (n < 128 * MIB) {
            p = realloc(p, n);
            REQUIRE(p);
            memset(p + filled, 1, n - filled);
            filled = n;
            n = n * 3 / 2;
        }
        free(p);
    }
    REQUIRE(resident_bytes() < before + 160 * MIB);
}

CASE(small_program_stays_small, "the RSS of a process that allocates 1 MB is below 12 MiB")
{
    void *p[1000];
    for (int i = 0; i < 1000; i++) {
        REQUIRE(p[i] = malloc(1000));
        memset(p[i], 1, 1000);
    }
    REQUIRE(resident_bytes() < 12 * MIB);
    for (int i = 0; i < 1000; i++)
        free(p[i]);
}

CASE(untouched_memory_is_not_resident, "malloc and calloc of 1 GiB touch next to nothing")
{
    size_t before = resident_bytes();
    char *p = malloc(GIB), *q = calloc(1, GIB);
    REQUIRE(p && q);
    REQUIRE(resident_bytes() < before + 4 * MIB);
    free(p);
    free(q);
    for (size_t n = 100000; n <= 32 * MIB; n *= 2) {
        void *block[8];
        before = resident_bytes();
        for (int i = 0; i < 8; i++)
            REQUIRE(block[i] = calloc(1, n));
        for (int i = 0; i < 8; i++)
            free(block[i]);
        REQUIRE(resident_bytes() < before + 8 * MIB);
    }
}
