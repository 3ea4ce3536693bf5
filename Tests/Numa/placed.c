/* SPDX-License-Identifier: MIT */
/* Puts memory on nodes as it is told, then says `ready` and waits: what `make test-numa` looks at.
 *
 *     placed bind       64 MiB in one object, all on node 1
 *     placed interleave 64 MiB in one object, its pages on nodes 0 and 1 by turns
 *     placed threads    a thread on each node asks for 16 MiB in slots of 1000 bytes, and stays
 *
 * What places memory is mbind(2), and where a thread runs; numactl does the same. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SIZE = 64 << 20, PAGE = 4096, SMALL = 1000, SLOTS = 16 << 10, NODES = 2 };
enum { BIND = 2, INTERLEAVE = 3 }; /* of mbind(2); <numaif.h> belongs to libnuma */

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void place(int policy, unsigned long nodes)
{
    char *object = malloc(SIZE);
    if (!object) fail("malloc");
    /* The slot's whole pages: huge slots begin at one. */
    uintptr_t start = ((uintptr_t)object + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
    uintptr_t size = (uintptr_t)object + SIZE - start;
    if (syscall(SYS_mbind, start, size & ~(uintptr_t)(PAGE - 1), policy, &nodes, 8 * sizeof(nodes),
                0))
        fail("mbind");
    memset(object, 1, SIZE);
}

static pthread_barrier_t ready;

/* On the processor whose number is its node's: the machine has one each. */
static void *fill(void *node)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((uintptr_t)node, &set);
    if (sched_setaffinity(0, sizeof(set), &set)) fail("sched_setaffinity");
    for (unsigned i = 0; i < SLOTS; i++) {
        void *slot = malloc(SMALL);
        if (!slot) fail("malloc");
        memset(slot, 1, SMALL);
    }
    pthread_barrier_wait(&ready);
    for (;;)
        pause();
    return 0;
}

int main(int count, char **words)
{
    if (count != 2) return 2;
    if (!strcmp(words[1], "bind")) {
        place(BIND, 2);
    } else if (!strcmp(words[1], "interleave")) {
        place(INTERLEAVE, 3);
    } else {
        pthread_barrier_init(&ready, 0, NODES + 1);
        for (uintptr_t node = 0; node < NODES; node++) {
            pthread_t thread;
            if (pthread_create(&thread, 0, fill, (void *)node)) fail("pthread_create");
        }
        pthread_barrier_wait(&ready);
    }
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}
