/* SPDX-License-Identifier: MIT */
/* heap_bench NAME [threads] [scale]: runs one kernel and prints one line of key=value pairs.
 *
 *     name threads scale   what ran
 *     ops                  allocations paired with their frees
 *     cpu_ns wall_ns       of the kernel alone, without process start
 *     rss_ratio            kernels that measure memory: resident over live bytes
 *     kept_ratio           kernels that free all: resident afterwards over the peak
 *     rss_end_kib          resident when the kernel ends, counted page by page
 *     check                checksum of what was read back, the same under every allocator
 *
 * `heap_bench --list` prints name, threads (one or many) and description, separated by tabs.
 * The program links nothing but libc, so that LD_PRELOAD decides which heap is measured. */
#define _GNU_SOURCE
#include "bench.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ONE, MANY, THREADS_MAX = 256 };

#define CASE(name, function, threads, about) mc_kernel function;
#include "cases.h"
#undef CASE

static const struct kernel {
    const char *name;
    mc_kernel *run;
    int threads;
    const char *about;
} kernels[] = {
#define CASE(name, function, threads, about) {name, function, threads, about},
#include "cases.h"
#undef CASE
};

enum { KERNELS = sizeof(kernels) / sizeof(kernels[0]) };

void mc_bench_fail(const char *what)
{
    fprintf(stderr, "heap_bench: %s\n", what);
    abort();
}

uint64_t mc_resident(void)
{
    char text[128] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t got = read(fd, text, sizeof(text) - 1);
    close(fd);
    unsigned long size, resident;
    if (got <= 0 || sscanf(text, "%lu %lu", &size, &resident) != 2) return 0;
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Since Linux 6.2 every processor counts resident pages by itself and tells the process' counters of some dozens
 * at once, so what a small process is said to have at most may lack some hundred KiB. This is exact; 0: not known. */
static uint64_t resident_now_kib(void)
{
    static char text[4096];
    int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t got = read(fd, text, sizeof(text) - 1);
    close(fd);
    const char *line = got > 0 ? strstr(text, "Rss:") : NULL;
    return line ? strtoull(line + strlen("Rss:"), NULL, 10) : 0;
}

struct worker {
    pthread_t thread;
    uint64_t (*work)(void *context, unsigned index);
    void *context;
    unsigned index;
    uint64_t result;
};

/* Keeps the calling thread, and those it starts, on one of the processors that the process may use. Two
 * threads that hand objects to each other cost three times as much on two processors as on one, and the
 * kernel puts both on one for as long as it likes: what is measured would be its choice. */
static void stay(unsigned index)
{
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof(allowed), &allowed)) return;
    unsigned wanted = index % (unsigned)CPU_COUNT(&allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || wanted--) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof(one), &one);
        return;
    }
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    stay(worker->index);
    worker->result = worker->work(worker->context, worker->index);
    return NULL;
}

uint64_t mc_in_threads(unsigned threads, uint64_t (*work)(void *context, unsigned index),
                       void *context)
{
    struct worker workers[THREADS_MAX];
    if (threads == 1) return work(context, 0);
    for (unsigned i = 0; i < threads; i++) {
        workers[i] = (struct worker){.work = work, .context = context, .index = i};
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]))
            mc_bench_fail("no thread could be started");
    }
    uint64_t sum = 0;
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        sum += workers[i].result;
    }
    return sum;
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static const struct kernel *find(const char *name)
{
    for (unsigned i = 0; i < KERNELS; i++)
        if (!strcmp(kernels[i].name, name)) return &kernels[i];
    return NULL;
}

static void list(void)
{
    for (unsigned i = 0; i < KERNELS; i++)
        printf("%s\t%s\t%s\n", kernels[i].name, kernels[i].threads == ONE ? "one" : "many",
               kernels[i].about);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--list")) {
        list();
        return 0;
    }
    const struct kernel *kernel = argc >= 2 ? find(argv[1]) : NULL;
    int threads = argc >= 3 ? atoi(argv[2]) : 1;
    double scale = argc >= 4 ? atof(argv[3]) : 1;
    if (!kernel || threads < 1 || threads > THREADS_MAX || !(scale > 0)) {
        fprintf(stderr,
                "usage: heap_bench NAME [threads 1..%d] [scale > 0]\n"
                "       heap_bench --list\n",
                THREADS_MAX);
        return 64;
    }
    struct mc_bench bench = {.threads = kernel->threads == ONE ? 1 : (unsigned)threads,
                             .scale = scale};
    uint64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID), wall = now_ns(CLOCK_MONOTONIC);
    uint64_t check = kernel->run(&bench);
    cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = now_ns(CLOCK_MONOTONIC) - wall;
    uint64_t rss_end = resident_now_kib();
    printf("name=%s threads=%u scale=%g ops=%" PRIu64 " cpu_ns=%" PRIu64 " wall_ns=%" PRIu64
           " rss_ratio=%.3f kept_ratio=%.3f rss_end_kib=%" PRIu64 " check=%016" PRIx64 "\n",
           kernel->name, bench.threads, scale, bench.ops, cpu, wall, bench.rss_ratio,
           bench.kept_ratio, rss_end, check);
    return 0;
}
