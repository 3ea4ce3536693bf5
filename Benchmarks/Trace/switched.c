/* SPDX-License-Identifier: MIT */
/* switched REGION THREADS: busy threads that say when tracing came to them. Each makes a pair of malloc and
 * free after another, until before one the word that malloc tests is 0 and some thread's allocation was accounted, so
 * that its own is as well (while the first to notice makes the table, the others' are not, and counted as such);
 * keeps that object, and goes on with pairs as before. Prints `ready` when all are at it, then, when each has its
 * object, a line for each: CLOCK_MONOTONIC in nanoseconds when it had the object, and when it saw that word
 * first. Ends with its input. The objects are of KEPT bytes, so that the trace can be asked whether they are all
 * there. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "memctl_region.h"

enum { KEPT = 777, OTHER = 100, THREADS_MAX = 1000 };

static const struct mc_region *region;
static uint64_t when[THREADS_MAX], seen[THREADS_MAX];
static void *kept[THREADS_MAX];
static unsigned begun, switched; /* [shared] */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int is_armed(void)
{
    return !mc_region_load(&region->direct);
}

static int is_on(void)
{
    return mc_region_load(&region->commands_seen) == mc_region_load(&region->commands);
}

static void *be_busy(void *number)
{
    uintptr_t mine = (uintptr_t)number;
    free(malloc(OTHER));
    __atomic_add_fetch(&begun, 1, __ATOMIC_RELEASE);
    while (!is_armed())
        free(malloc(OTHER));
    seen[mine] = now_ns();
    while (!is_on())
        free(malloc(OTHER));
    kept[mine] = malloc(KEPT);
    when[mine] = now_ns();
    __atomic_add_fetch(&switched, 1, __ATOMIC_RELEASE);
    for (;;)
        free(malloc(OTHER));
    return 0;
}

static void wait_for(const unsigned *count, unsigned wanted)
{
    while (__atomic_load_n(count, __ATOMIC_ACQUIRE) < wanted)
        usleep(1000);
}

int main(int argc, char **argv)
{
    unsigned threads = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
    int file = argc > 1 ? open(argv[1], O_RDONLY) : -1;
    if (file < 0 || !threads || threads > THREADS_MAX) {
        fprintf(stderr, "usage: switched REGION THREADS, 1 to %d\n", THREADS_MAX);
        return 64;
    }
    region = mmap(0, MC_REGION_PAGE, PROT_READ, MAP_SHARED, file, 0);
    if (region == MAP_FAILED) return 1;
    for (uintptr_t i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, 0, be_busy, (void *)i)) return 1;
    }
    wait_for(&begun, threads);
    puts("ready");
    fflush(stdout);
    wait_for(&switched, threads);
    for (unsigned i = 0; i < threads; i++)
        printf("%llu %llu\n", (unsigned long long)when[i], (unsigned long long)seen[i]);
    fflush(stdout);
    getchar();
    return 0;
}
