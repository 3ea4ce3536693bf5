/* keys.c: cases about per-thread keys, whose destructors use the heap when a thread ends. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <threads.h>

enum { MIB = 1 << 20 };

static atomic_int key_destructions;

static void key_destructor(void *p)
{
    free(p);
    free(malloc(300));
    atomic_fetch_add(&key_destructions, 1);
}

static int key_count;
static pthread_key_t keys[PTHREAD_KEYS_MAX];

static void *set_all_keys(void *unused)
{
    for (int i = 0; i < key_count; i++)
        REQUIRE(pthread_setspecific(keys[i], malloc(20)) == 0);
    return unused;
}

CASE(all_thread_keys_are_the_programs,
     "PTHREAD_KEYS_MAX keys can be made; their destructors use the "
     "heap; pthread_key_create(3)")
{
    free(malloc(1));
    while (key_count < PTHREAD_KEYS_MAX &&
           pthread_key_create(&keys[key_count], key_destructor) == 0)
        key_count++;
    REQUIRE(key_count == PTHREAD_KEYS_MAX);
    for (int i = 0; i < 20; i++)
        run_thread(set_all_keys, NULL, 0);
    REQUIRE(atomic_load(&key_destructions) == 20 * key_count);
}

static pthread_key_t late_key;

/* Sets itself again: runs in every round, PTHREAD_DESTRUCTOR_ITERATIONS times. */
static void late_destructor(void *p)
{
    free(p);
    pthread_setspecific(late_key, malloc(500));
    atomic_fetch_add(&key_destructions, 1);
}

static void *set_late_key(void *unused)
{
    pthread_setspecific(late_key, malloc(500));
    return unused;
}

CASE(key_destructors_of_all_rounds_allocate, "also in the last round of destructors; "
                                             "pthread_key_create(3)")
{
    REQUIRE(pthread_key_create(&late_key, late_destructor) == 0);
    size_t before = 0;
    for (int i = 0; i < 3000; i++) {
        run_thread(set_late_key, NULL, 65536);
        if (i == 300) before = resident_bytes();
    }
    /* One block of 500 bytes is lost for each thread: 1.4 MB. */
    REQUIRE(resident_bytes() < before + 8 * MIB);
    REQUIRE(atomic_load(&key_destructions) == 3000 * PTHREAD_DESTRUCTOR_ITERATIONS);
}

static tss_t c11_key;

static int set_c11_key(void *unused)
{
    (void)unused;
    return tss_set(c11_key, malloc(77)) == thrd_success ? 0 : 1;
}

CASE(c11_key_destructors_allocate, "tss_create's destructors; C17 7.26.6.1")
{
    REQUIRE(tss_create(&c11_key, key_destructor) == thrd_success);
    for (int i = 0; i < 100; i++) {
        thrd_t thread;
        int result = 1;
        REQUIRE(thrd_create(&thread, set_c11_key, NULL) == thrd_success);
        REQUIRE(thrd_join(thread, &result) == thrd_success && result == 0);
    }
    REQUIRE(atomic_load(&key_destructions) == 100);
}
