/* SPDX-License-Identifier: MIT */
/* spawner COUNT PRELOAD COMMAND...: fork+exec of a command COUNT times, one after the other; prints
 * the medians of its wall and CPU time in microseconds, and the command's peak RSS in KiB. CPU time
 * includes descendants that the command waited for; it is what a busy machine disturbs least.
 *
 * A small program of its own, because what starts a process is part of what starting costs: an
 * interpreter's fork copies megabytes of page tables. vfork, as posix_spawn uses it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t cpu_ns(const struct rusage *usage)
{
    const struct timeval *user = &usage->ru_utime, *system = &usage->ru_stime;
    return ((int64_t)(user->tv_sec + system->tv_sec) * 1000000 + user->tv_usec + system->tv_usec) *
           1000;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    int count = argc > 3 ? atoi(argv[1]) : 0;
    if (count < 1) {
        fputs("usage: spawner COUNT PRELOAD COMMAND...\n", stderr);
        return 64;
    }
    int64_t *took = malloc((size_t)count * sizeof(*took));
    int64_t *worked = malloc((size_t)count * sizeof(*worked));
    posix_spawn_file_actions_t quiet;
    if (!took || !worked || posix_spawn_file_actions_init(&quiet)) return 1;
    posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (*argv[2]) setenv("LD_PRELOAD", argv[2], 1);
    struct rusage usage = {0};
    for (int i = 0; i < count; i++) {
        pid_t child;
        int status;
        int64_t began = now_ns();
        if (posix_spawnp(&child, argv[3], &quiet, NULL, argv + 3, environ)) return 1;
        if (wait4(child, &status, 0, &usage) != child || status) return 1;
        took[i] = now_ns() - began;
        worked[i] = cpu_ns(&usage);
    }
    qsort(took, (size_t)count, sizeof(*took), compare);
    qsort(worked, (size_t)count, sizeof(*worked), compare);
    printf("median_us=%.2f cpu_us=%.2f rss=%ld\n", (double)took[count / 2] / 1000,
           (double)worked[count / 2] / 1000, usage.ru_maxrss);
    return 0;
}
