/* SPDX-License-Identifier: MIT */
/* What a process has of memory that it freed: `returns LOW HIGH MIB` makes objects of LOW to HIGH bytes, of so
 * many MiB in all, frees them, and goes on with light work for a second. Prints RSS over what it was at
 * the start, in KiB, as key=value: at the peak, freed, during the second, and after malloc_trim(3).
 * `returns threads COUNT` runs so many threads one after the other, which leave half of what they
 * allocate to the next one, and prints it after a hundredth of them and at the end.
 * `returns handed MIB` has another thread free so many MiB of small objects and go on, while the first waits.
 * `returns waiting COUNT` has so many threads make objects of all sizes up to 16 KiB, free them and wait,
 * while the first goes on as above. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE_KIB = 4,
    LEFT = 64,
    LOOKS = 4,
    HELD = 2000,
    HELD_ROUNDS = 20,
    HELD_SIZE_MAX = 16 << 10
};

static uint64_t seed = 88172645463325252ull;

static uint64_t below_by(uint64_t *state, uint64_t limit)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state % limit;
}

static uint64_t below(uint64_t limit)
{
    return below_by(&seed, limit);
}

static long resident_kib(void)
{
    char text[128] = "";
    long size, resident = 0;
    int fd = open("/proc/self/statm", O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0) abort();
    close(fd);
    if (sscanf(text, "%ld %ld", &size, &resident) != 2) abort();
    return resident * PAGE_KIB;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* As a program that has little to do: ten objects each millisecond, and a buffer. */
static void work_until(double end)
{
    while (seconds() < end) {
        for (unsigned i = 0; i < 10; i++) {
            char *p = malloc(16 + below(2000));
            if (!p) abort();
            p[0] = 1;
            free(p);
        }
        char *buffer = malloc((16 << 10) + below(240 << 10));
        if (!buffer) abort();
        buffer[0] = 1;
        free(buffer);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static void look_on(long before)
{
    double freed = seconds();
    printf(" freed=%ld", resident_kib() - before);
    for (unsigned look = 1; look <= LOOKS; look++) {
        work_until(freed + (double)look / LOOKS);
        printf(" after_%u=%ld", 1000 * look / LOOKS, resident_kib() - before);
    }
    malloc_trim(0);
    printf(" trimmed=%ld\n", resident_kib() - before);
}

static void go_back(uint64_t low, uint64_t high, uint64_t mib)
{
    uint64_t total = mib << 20, capacity = total / low + 1, count = 0;
    /* In a mapping of its own, so that it is no part of the heap. */
    void **all = mmap(NULL, capacity * sizeof(*all), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) abort();
    work_until(seconds() + 0.1);
    long before = resident_kib();
    for (uint64_t live = 0; live < total; count++) {
        uint64_t size = low + below(high - low + 1);
        if (!(all[count] = malloc(size))) abort();
        memset(all[count], 1, size);
        live += size;
    }
    printf("peak=%ld", resident_kib() - before);
    for (uint64_t i = 0; i < count; i++)
        free(all[i]);
    munmap(all, capacity * sizeof(*all));
    look_on(before);
}

static void *left[LEFT];

static void *live_shortly(void *unused)
{
    for (unsigned i = 0; i < LEFT; i++) {
        char *own = malloc(8 + below(1000));
        free(left[i]);
        left[i] = malloc(8 + below(1000));
        if (!own || !left[i]) abort();
        own[0] = *(char *)left[i] = 1;
        free(own);
    }
    return unused;
}

static void threads(long count)
{
    long before = resident_kib();
    for (long i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, live_shortly, NULL)) abort();
        pthread_join(thread, NULL);
        if (i == count / 100) printf("early=%ld", resident_kib() - before);
    }
    printf(" late=%ld\n", resident_kib() - before);
}

static void **handed;
static uint64_t handed_count;
static long handed_before;

static void *free_handed(void *unused)
{
    for (uint64_t i = 0; i < handed_count; i++)
        free(handed[i]);
    look_on(handed_before);
    return unused;
}

static void hand_over(uint64_t mib)
{
    enum { LOW = 16, HIGH = 1024 };
    uint64_t total = mib << 20;
    pthread_t thread;
    handed = mmap(NULL, total / LOW * sizeof(*handed), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (handed == MAP_FAILED) abort();
    work_until(seconds() + 0.1);
    handed_before = resident_kib();
    for (uint64_t live = 0; live < total;) {
        uint64_t size = LOW + below(HIGH - LOW + 1);
        if (!(handed[handed_count] = malloc(size))) abort();
        memset(handed[handed_count++], 1, size);
        live += size;
    }
    printf("peak=%ld", resident_kib() - handed_before);
    /* Of the table only this is left, which counts. */
    handed_before += (long)(handed_count * sizeof(*handed) >> 10);
    if (pthread_create(&thread, NULL, free_handed, NULL)) abort();
    pthread_join(thread, NULL);
}

static pthread_barrier_t meeting;

/* Smaller ones more often, in no order. */
static void *hold_and_wait(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument * 0x9e3779b97f4a7c15ull;
    void **held = calloc(HELD, sizeof(*held));
    if (!held) abort();
    for (unsigned i = 0; i < HELD * HELD_ROUNDS; i++) {
        uint64_t at = below_by(&state, HELD), part = below_by(&state, HELD_SIZE_MAX);
        size_t size = 16 + part * part / HELD_SIZE_MAX;
        free(held[at]);
        if (!(held[at] = malloc(size))) abort();
        memset(held[at], 1, size);
    }
    pthread_barrier_wait(&meeting);
    for (unsigned i = 0; i < HELD; i++)
        free(held[i]);
    free(held);
    pthread_barrier_wait(&meeting);
    pthread_barrier_wait(&meeting);
    return NULL;
}

static void waiting(unsigned count)
{
    pthread_t *threads = mmap(NULL, count * sizeof(*threads), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (threads == MAP_FAILED || pthread_barrier_init(&meeting, NULL, count + 1)) abort();
    work_until(seconds() + 0.1);
    long before = resident_kib();
    for (uintptr_t i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, hold_and_wait, (void *)(i + 1))) abort();
    pthread_barrier_wait(&meeting);
    printf("peak=%ld", resident_kib() - before);
    pthread_barrier_wait(&meeting);
    look_on(before);
    pthread_barrier_wait(&meeting);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "threads"))
        threads(atol(argv[2]));
    else if (argc == 3 && !strcmp(argv[1], "waiting"))
        waiting((unsigned)atoi(argv[2]));
    else if (argc == 3 && !strcmp(argv[1], "handed"))
        hand_over(strtoull(argv[2], NULL, 10));
    else if (argc == 4)
        go_back(strtoull(argv[1], NULL, 10), strtoull(argv[2], NULL, 10),
                strtoull(argv[3], NULL, 10));
    else
        return 64;
    return 0;
}
