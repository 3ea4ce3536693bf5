/* SPDX-License-Identifier: MIT */
/* measured FD PRELOAD COMMAND...: runs a command and writes what it cost to descriptor FD as
 * "cpu_us wall_us peak_rss_kib wait_status". An empty PRELOAD means none.
 *
 * It exists because Linux counts the memory a process had before exec in its peak RSS: started
 * from an interpreter, every small program would look as fat as the interpreter. Descendants that
 * the command waited for are included. SIGTERM kills the command and its process group. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile pid_t child;

static void stop(int number)
{
    (void)number;
    if (child > 0) kill(-child, SIGKILL);
}

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t micro(struct timeval t)
{
    return (int64_t)t.tv_sec * 1000000 + t.tv_usec;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fputs("usage: measured FD PRELOAD COMMAND...\n", stderr);
        return 64;
    }
    int fd = atoi(argv[1]), status;
    struct rusage usage;
    int64_t began = now_us();
    child = fork();
    if (child < 0) return 1;
    if (!child) {
        setpgid(0, 0);
        close(fd);
        if (*argv[2]) setenv("LD_PRELOAD", argv[2], 1);
        execvp(argv[3], argv + 3);
        _exit(127);
    }
    setpgid(child, child);
    signal(SIGTERM, stop);
    if (wait4(child, &status, 0, &usage) != child) return 1;
    dprintf(fd, "%" PRId64 " %" PRId64 " %ld %d\n", micro(usage.ru_utime) + micro(usage.ru_stime),
            now_us() - began, usage.ru_maxrss, status);
    return 0;
}
