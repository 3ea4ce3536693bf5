/* SPDX-License-Identifier: MIT */
/* What a process has of memory that it freed: `returns LOW HIGH MIB` makes objects of LOW to HIGH bytes, of so
 * many MiB in all, frees them, and goes on with light work for a second. Prints RSS over what it was at
 * the start, in KiB, as key=value: at the peak, freed, during the second, and after malloc_trim(3).
 * `returns threads COUNT` runs so many threads one after the other, which leave half of what they
 * allocate to the next one, and prints it after a hundredth of them and at the end. */
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

enum { PAGE_KIB = 4, LEFT = 64, LOOKS = 4 };

static uint64_t seed = 88172645463325252ull;

static uint64_t below(uint64_t limit)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % limit;
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
    double freed = seconds();
    printf(" freed=%ld", resident_kib() - before);
    for (unsigned look = 1; look <= LOOKS; look++) {
        work_until(freed + (double)look / LOOKS);
        printf(" after_%u=%ld", 1000 * look / LOOKS, resident_kib() - before);
    }
    malloc_trim(0);
    printf(" trimmed=%ld\n", resident_kib() - before);
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

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "threads"))
        threads(atol(argv[2]));
    else if (argc == 4)
        go_back(strtoull(argv[1], NULL, 10), strtoull(argv[2], NULL, 10),
                strtoull(argv[3], NULL, 10));
    else
        return 64;
    return 0;
}
