/* SPDX-License-Identifier: MIT */
/* A heap for the reports to look at, and a thread that says how long it was held up meanwhile.
 *
 *     looked_at slots COUNT     COUNT live slots of 16 to 208 bytes; every fifth of more is freed
 *     looked_at sparse GIB      GIB of objects of 16 KiB to 1 MiB, of which few pages are touched
 *
 * Says `ready` once it is there. A line on standard input is answered with the longest time, in
 * microseconds, that a round of the thread took since the line before: a round maps and unmaps a
 * page, which needs the address space for itself, and allocates and frees. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static uint64_t longest_ns; /* [shared] */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *go_round(void *none)
{
    (void)none;
    uint64_t last = now_ns();
    for (;;) {
        char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) abort();
        *page = 1;
        munmap(page, 4096);
        free(malloc(100));
        uint64_t now = now_ns();
        if (now - last > __atomic_load_n(&longest_ns, __ATOMIC_RELAXED))
            __atomic_store_n(&longest_ns, now - last, __ATOMIC_RELAXED);
        last = now;
    }
    return 0;
}

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* Kept alive by a list through the objects themselves. */
static void *kept;

static void keep(void *object)
{
    if (!object) abort();
    *(void **)object = kept;
    kept = object;
}

static void make_slots(uint64_t count)
{
    uint32_t random = 7;
    for (uint64_t i = 0; i < count; i++) {
        keep(malloc(16 + next_random(&random) % 13 * 16));
        if (i % 4) continue;
        /* Freed in an order that is not the slots'. */
        void *first = malloc(16 + next_random(&random) % 13 * 16), *second = malloc(64);
        free(first);
        free(second);
    }
}

static void make_sparse(uint64_t gib)
{
    uint32_t random = 7;
    for (uint64_t size = 0; size < gib << 30;) {
        uint64_t more = (uint64_t)(1 + next_random(&random) % 64) << 14;
        keep(malloc(more));
        size += more;
    }
}

int main(int count, char **words)
{
    static char line[64];
    pthread_t thread;
    if (count != 3) return 2;
    uint64_t amount = strtoull(words[2], 0, 10);
    if (strcmp(words[1], "sparse"))
        make_slots(amount);
    else
        make_sparse(amount);
    if (pthread_create(&thread, 0, go_round, 0)) return 3;
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        printf("%llu\n",
               (unsigned long long)(__atomic_exchange_n(&longest_ns, 0, __ATOMIC_RELAXED) / 1000));
        fflush(stdout);
    }
    return 0;
}
