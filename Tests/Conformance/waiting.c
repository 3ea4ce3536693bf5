/* waiting.c: cases about memory that threads had which wait for work and ask for nothing any more. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <malloc.h>
#include <pthread.h>

enum { MIB = 1 << 20 };
static pthread_barrier_t barrier;

enum { WORK_OBJECTS = 1000, WORK_SIZE_MAX = 24 << 10 };

/* 3 MiB at a time, of all sizes, in no order. */
static void *work_and_wait(void *argument)
{
    uint64_t seed = (uint64_t)(uintptr_t)argument;
    char **objects = calloc(WORK_OBJECTS, sizeof(*objects));
    REQUIRE(objects);
    for (int i = 0; i < 20 * WORK_OBJECTS; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t at = (size_t)(seed >> 33) % WORK_OBJECTS, part = (size_t)(seed >> 48) % 256;
        free(objects[at]);
        size_t size = 16 + part * part * WORK_SIZE_MAX / 65536;
        REQUIRE((objects[at] = malloc(size)) != NULL);
        memset(objects[at], 1, size);
    }
    for (int i = 0; i < WORK_OBJECTS; i++)
        free(objects[i]);
    free(objects);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

CASE_OURS(waiting_threads_give_back,
          "what 16 threads freed before they wait goes back while another works, and by "
          "malloc_trim(3): under 2 MiB each are left of 8")
{
    enum { COUNT = 16 };
    pthread_t thread[COUNT];
    REQUIRE(pthread_barrier_init(&barrier, NULL, COUNT + 1) == 0);
    size_t before = resident_bytes();
    for (uintptr_t i = 0; i < COUNT; i++)
        REQUIRE(pthread_create(&thread[i], NULL, work_and_wait, (void *)(i + 1)) == 0);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 100; i++) {
        for (int n = 0; n < 100; n++) {
            char *volatile object = malloc(100000);
            free(object);
        }
        sleep_milliseconds(10);
    }
    size_t later = resident_bytes();
    malloc_trim(0);
    size_t trimmed = resident_bytes();
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < COUNT; i++)
        pthread_join(thread[i], NULL);
    size_t most = COUNT * (2 * MIB + huge_page_rest());
    if (later >= before + most || trimmed >= before + most)
        dprintf(2, "%zu and %zu KiB for each thread;", (later - before) / COUNT / 1024,
                (trimmed - before) / COUNT / 1024);
    REQUIRE(later < before + most && trimmed < before + most);
}
