/* SPDX-License-Identifier: MIT */
/* A thread that never sleeps once it has begun, with a megabyte of its stack in use. Prints its tid and
 * the address of a byte there. Ends when standard input does. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int done;

static void *spin(void *unused)
{
    char large[1 << 20];
    void *volatile object = malloc(100);
    memset(large, 1, sizeof(large));
    printf("%ld %p\n", syscall(SYS_gettid), (void *)&large[1 << 19]);
    fflush(stdout);
    while (!done || large[1 << 19] != 1)
        ;
    free(object);
    return unused;
}

int main(void)
{
    pthread_t thread;
    char byte;
    if (pthread_create(&thread, NULL, spin, NULL)) return 1;
    while (read(0, &byte, 1) > 0)
        ;
    done = 1;
    return pthread_join(thread, NULL);
}
