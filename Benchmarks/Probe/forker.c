/* SPDX-License-Identifier: MIT */
/* forker COUNT: mean CPU time of parent and child in fork, one allocation in the child, its exit, and wait, in a
 * process that holds 50 MiB of small objects. What a heap does in its fork handlers, and how many
 * pages it touches afterwards in parent and child, is in it. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OBJECTS = 200000, SIZE = 256 };

static double cpu_us(int who)
{
    struct rusage usage;
    getrusage(who, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

int main(int argc, char **argv)
{
    static void *objects[OBJECTS];
    int count = argc > 1 ? atoi(argv[1]) : 200;
    if (count < 1 || count > OBJECTS) return 64;
    for (unsigned i = 0; i < OBJECTS; i++) {
        objects[i] = malloc(SIZE);
        if (!objects[i]) return 1;
        memset(objects[i], 1, SIZE);
    }
    double before = cpu_us(RUSAGE_SELF);
    for (int i = 0; i < count; i++) {
        int status;
        pid_t child = fork();
        if (child < 0) return 1;
        if (!child) {
            free(objects[i]);
            objects[i] = malloc(SIZE);
            _exit(objects[i] == NULL);
        }
        if (waitpid(child, &status, 0) != child || status) return 1;
    }
    double after = cpu_us(RUSAGE_SELF) + cpu_us(RUSAGE_CHILDREN);
    printf("cpu_us=%.2f\n", (after - before) / count);
    return 0;
}
