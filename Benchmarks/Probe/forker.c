/* SPDX-License-Identifier: MIT */
/* forker COUNT: median wall time of fork, one allocation in the child, its exit, and wait, in a
 * process that holds 50 MiB of small objects. What a heap does in its fork handlers, and how many
 * pages it touches afterwards in parent and child, is in it. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { OBJECTS = 200000, SIZE = 256 };

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static void *objects[OBJECTS];
    int count = argc > 1 ? atoi(argv[1]) : 200;
    int64_t *took = malloc((size_t)count * sizeof(*took));
    if (count < 1 || !took) return 64;
    for (unsigned i = 0; i < OBJECTS; i++) {
        objects[i] = malloc(SIZE);
        if (!objects[i]) return 1;
        memset(objects[i], 1, SIZE);
    }
    for (int i = 0; i < count; i++) {
        int status;
        int64_t began = now_ns();
        pid_t child = fork();
        if (child < 0) return 1;
        if (!child) {
            free(objects[i]);
            objects[i] = malloc(SIZE);
            _exit(objects[i] == NULL);
        }
        if (waitpid(child, &status, 0) != child || status) return 1;
        took[i] = now_ns() - began;
    }
    qsort(took, (size_t)count, sizeof(*took), compare);
    printf("median_us=%.2f lowest_us=%.2f\n", (double)took[count / 2] / 1000,
           (double)took[0] / 1000);
    return 0;
}
