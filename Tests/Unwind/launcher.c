/* SPDX-License-Identifier: MIT */
/* Runs a program under the sampler and says what came of it, one line in the test protocol.
 *
 *   launcher NAME LOG SECONDS LEAST PERIOD_US MALLOC_EVERY SAMPLER -- COMMAND...
 *
 * The command is stopped after SECONDS; that is no failure: programs under test may run for ever.
 * On a busy machine that may be too short for LEAST stacks: it goes on until they are there, for at
 * most PATIENCE times as long, and a command that ends before is run again, RUNS times at most.
 * Fails when a difference was seen, when the program died of a signal other than ours, or when
 * fewer than LEAST stacks were compared even so. The log of differences is left at LOG. */
#define _GNU_SOURCE
#include "sampler.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 30, RUNS = 20 };

static struct tally *share(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct tally))) return NULL;
    void *shared = mmap(NULL, sizeof(struct tally), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return shared == MAP_FAILED ? NULL : shared;
}

/* Waits up to `seconds`, longer as long as there are too few stacks, then kills the group. Returns
 * the status, *late whether it was stopped. */
static int wait_for(pid_t child, double seconds, const struct tally *tally, uint64_t least,
                    int *late)
{
    int status = 0;
    long usual = (long)(seconds * 100);
    for (long i = 0; i < usual * PATIENCE; i++) {
        if (waitpid(child, &status, WNOHANG) == child) return status;
        if (i >= usual && __atomic_load_n(&tally->stacks, __ATOMIC_RELAXED) >= least) break;
        struct timespec pause = {0, 10000000};
        nanosleep(&pause, NULL);
    }
    *late = 1;
    kill(-child, SIGKILL);
    waitpid(child, &status, 0);
    return status;
}

static pid_t start(char **argv, const char *tally_path)
{
    pid_t child = fork();
    if (child != 0) return child;
    setpgid(0, 0);
    setenv("UNWIND_TALLY", tally_path, 1);
    setenv("UNWIND_LOG", argv[2], 1);
    setenv("UNWIND_PERIOD_US", argv[5], 1);
    setenv("UNWIND_MALLOC_EVERY", argv[6], 1);
    setenv("LD_PRELOAD", argv[7], 1);
    execvp(argv[9], argv + 9);
    fprintf(stderr, "launcher: %s: %s\n", argv[9], strerror(errno));
    _exit(127);
}

static void print_tally(const char *name, const struct tally *t, int late)
{
    printf("# %s: %lu stacks %lu frames, %lu differences, %lu fast/exact, %lu excused (low sp %lu, "
           "frame of data %lu, skipped caller %lu, late lookup %lu, ignored sp %lu), ",
           name, t->stacks, t->frames, t->differences, t->unlike, t->excused, t->excuse[1],
           t->excuse[2], t->excuse[3], t->excuse[4], t->excuse[5]);
    printf("%lu calls (%lu along trails, %lu landed, %lu recalled, %lu strayed), ", t->calls,
           t->along, t->landed, t->recalled, t->strayed);
    printf("%lu guessed; %lu complete %lu cut %lu stopped (%lu %lu %lu), %lu exact, %lu signals, "
           "deepest %lu, %lu busy, %lu damaged%s\n",
           t->guessed, t->complete, t->cut, t->stopped, t->why[0], t->why[1], t->why[2], t->exact,
           t->signals, t->deepest, t->busy, t->mutated, late ? ", stopped at the time limit" : "");
}

/* Why a run failed; NULL: it did not. */
static const char *judge(int status, int late, const struct tally *tally)
{
    static char text[160];
    if (!late && WIFSIGNALED(status)) {
        snprintf(text, sizeof text, "died of signal %d", WTERMSIG(status));
        return text;
    }
    if (!late && WEXITSTATUS(status)) {
        snprintf(text, sizeof text, "exit code %d", WEXITSTATUS(status));
        return text;
    }
    return tally->differences || tally->unlike || tally->strayed ? "differences" : NULL;
}

int main(int argc, char **argv)
{
    char tally_path[4096];
    if (argc < 10) return 64;
    snprintf(tally_path, sizeof tally_path, "%s.tally", argv[2]);
    int log = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    struct tally *tally = share(tally_path);
    if (log < 0 || !tally) {
        printf("not ok %s: %s: %s\n", argv[1], tally_path, strerror(errno));
        return 1;
    }
    int late = 0, runs = 0;
    uint64_t least = (uint64_t)atol(argv[4]);
    const char *reason = NULL;
    while (!reason && !late && (runs == 0 || (tally->stacks < least && runs < RUNS))) {
        int status = wait_for(start(argv, tally_path), atof(argv[3]), tally, least, &late);
        reason = judge(status, late, tally);
        runs++;
    }
    if (!reason && tally->stacks < least) reason = "too few stacks";
    if (reason)
        printf("not ok %s: %s, log in %s\n", argv[1], reason, argv[2]);
    else
        printf("ok %s\n", argv[1]);
    print_tally(argv[1], tally, late);
    unlink(tally_path);
    return reason != NULL;
}
