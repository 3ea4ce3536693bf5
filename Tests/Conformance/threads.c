/* threads.c: cases about allocation by many threads, by threads that come and go or are cancelled.
 * "malloc, free, calloc, realloc: MT-Safe"; malloc(3) ATTRIBUTES. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <threads.h>

enum { MIB = 1 << 20 };

/* --- free what another thread allocated ------------------------------------------------------ */

enum { BOARD = 4096, TRADERS = 4 };
static _Atomic(char *) board[BOARD];

/* Each block carries its size and a pattern, and is checked by whoever takes it. */
static void check_and_free(char *p)
{
    if (!p) return;
    size_t size;
    memcpy(&size, p, sizeof size);
    REQUIRE(size >= 8 && pattern_holds(p + 8, size - 8, (unsigned)size));
    free(p);
}

static void *trade(void *seed)
{
    uint64_t state = (uintptr_t)seed;
    for (int i = 0; i < 150000; i++) {
        uint64_t r = random_next(&state);
        size_t size = 8 + (r >> 32) % (i % 100 ? 300 : i % 1000 ? 20000 : 200000);
        char *p = r % 4 == 0 ? memalign(64, size) : malloc(size);
        REQUIRE(p);
        if (r % 8 == 1) REQUIRE(p = realloc(p, size += 100));
        memcpy(p, &size, sizeof size);
        pattern_fill(p + 8, size - 8, (unsigned)size);
        check_and_free(atomic_exchange(&board[r % BOARD], p));
    }
    return NULL;
}

CASE(threads_free_each_others_blocks, "a block may be freed by any thread; malloc(3)")
{
    pthread_t thread[TRADERS];
    for (uintptr_t i = 0; i < TRADERS; i++)
        REQUIRE(pthread_create(&thread[i], NULL, trade, (void *)(i + 1)) == 0);
    for (int i = 0; i < TRADERS; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < BOARD; i++)
        check_and_free(board[i]);
}

enum { QUEUE = 1024, SENT = 400000 };
static _Atomic(char *) queue[QUEUE];

static void *consume(void *unused)
{
    for (int i = 0; i < SENT; i++) {
        char *p;
        while (!(p = atomic_exchange(&queue[i % QUEUE], NULL)))
            sched_yield();
        check_and_free(p);
    }
    return unused;
}

CASE(producer_and_consumer_stay_bounded, "blocks made here and freed there are reused: RSS is flat")
{
    pthread_t consumer;
    REQUIRE(pthread_create(&consumer, NULL, consume, NULL) == 0);
    size_t before = resident_bytes();
    for (int i = 0; i < SENT; i++) {
        size_t size = 64 + (size_t)i % 500;
        char *p = malloc(size), *empty = NULL;
        REQUIRE(p);
        memcpy(p, &size, sizeof size);
        pattern_fill(p + 8, size - 8, (unsigned)size);
        while (!atomic_compare_exchange_weak(&queue[i % QUEUE], &empty, p)) {
            empty = NULL;
            sched_yield();
        }
    }
    REQUIRE(resident_bytes() < before + 24 * MIB);
    pthread_join(consumer, NULL);
}

static char *handed[2000];

static void *allocate_handed(void *unused)
{
    for (int i = 0; i < 2000; i++) {
        handed[i] = malloc(40 + (size_t)i * 7);
        REQUIRE(handed[i]);
        pattern_fill(handed[i], 40, (unsigned)i);
    }
    return unused;
}

CASE(blocks_outlive_their_thread, "what an ended thread allocated stays valid and can be freed, "
                                  "resized and its space used again")
{
    size_t before = 0;
    for (int round = 0; round < 60; round++) {
        run_thread(allocate_handed, NULL, 0);
        for (int i = 0; i < 2000; i++) {
            REQUIRE(pattern_holds(handed[i], 40, (unsigned)i));
            if (i % 3 == 0) REQUIRE(handed[i] = realloc(handed[i], 100 + (size_t)i));
            free(handed[i]);
        }
        if (round == 20) before = resident_bytes();
    }
    REQUIRE(resident_bytes() < before + 16 * MIB);
}

static _Atomic(char *) basket[1024];

static void *fill_basket(void *seed)
{
    uint64_t state = (uintptr_t)seed;
    for (int i = 0; i < 2000; i++) {
        size_t size = 8 + random_next(&state) % 500;
        char *p = malloc(size);
        REQUIRE(p);
        memcpy(p, &size, sizeof size);
        pattern_fill(p + 8, size - 8, (unsigned)size);
        check_and_free(atomic_exchange(&basket[random_next(&state) % 1024], p));
    }
    return NULL;
}

static atomic_bool basket_done;

static void *empty_basket(void *unused)
{
    for (unsigned i = 0; !atomic_load(&basket_done); i++)
        check_and_free(atomic_exchange(&basket[i % 1024], NULL));
    return unused;
}

CASE(threads_end_while_others_free_their_blocks,
     "the end of a thread and frees of its blocks at the "
     "same time")
{
    pthread_t freeing[2], filling[3];
    for (int i = 0; i < 2; i++)
        REQUIRE(pthread_create(&freeing[i], NULL, empty_basket, NULL) == 0);
    for (uintptr_t round = 0; round < 200; round++) {
        for (uintptr_t i = 0; i < 3; i++)
            REQUIRE(pthread_create(&filling[i], NULL, fill_basket, (void *)(round * 3 + i)) == 0);
        for (int i = 0; i < 3; i++)
            pthread_join(filling[i], NULL);
    }
    atomic_store(&basket_done, true);
    for (int i = 0; i < 2; i++)
        pthread_join(freeing[i], NULL);
    for (int i = 0; i < 1024; i++)
        check_and_free(basket[i]);
}

/* --- many threads ---------------------------------------------------------------------------- */

static void *allocate_some(void *unused)
{
    void *p[100];
    for (size_t i = 0; i < 100; i++) {
        p[i] = malloc(i * 37 + 1);
        REQUIRE(p[i]);
        memset(p[i], 1, i * 37 + 1);
    }
    for (size_t i = 0; i < 100; i++)
        free(p[i]);
    return unused;
}

CASE(short_threads_leave_nothing,
     "10,000 threads one after the other: RSS and address space are flat")
{
    size_t resident = 0, space = 0;
    for (int i = 0; i < 10000; i++) {
        run_thread(allocate_some, NULL, 65536);
        if (i != 1000) continue;
        resident = resident_bytes();
        space = address_space_bytes();
    }
    REQUIRE(resident_bytes() < resident + 4 * MIB);
    REQUIRE(address_space_bytes() < space + 256u * MIB);
}

static pthread_barrier_t barrier;

static void *allocate_together(void *unused)
{
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 20; i++)
        allocate_some(NULL);
    pthread_barrier_wait(&barrier);
    return unused;
}

CASE(many_threads_at_once, "200 threads allocate at the same time")
{
    enum { COUNT = 200 };
    pthread_t thread[COUNT];
    REQUIRE(pthread_barrier_init(&barrier, NULL, COUNT) == 0);
    for (int i = 0; i < COUNT; i++)
        REQUIRE(pthread_create(&thread[i], NULL, allocate_together, NULL) == 0);
    for (int i = 0; i < COUNT; i++)
        REQUIRE(pthread_join(thread[i], NULL) == 0);
}

CASE(idle_threads_cost_little,
     "200 idle threads that had 185 KB at their peak and freed it hold under "
     "400 KiB each")
{
    enum { COUNT = 200 };
    pthread_t thread[COUNT];
    REQUIRE(pthread_barrier_init(&barrier, NULL, COUNT + 1) == 0);
    size_t before = resident_bytes();
    for (int i = 0; i < COUNT; i++)
        REQUIRE(pthread_create(&thread[i], NULL, allocate_together, NULL) == 0);
    pthread_barrier_wait(&barrier);
    sleep_milliseconds(1500);
    free(malloc(1000));
    size_t peak = resident_bytes();
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < COUNT; i++)
        pthread_join(thread[i], NULL);
    size_t most = COUNT * (((size_t)400 << 10) + huge_page_rest());
    if (peak >= before + most)
        dprintf(2, "%zu KiB for each thread;", (peak - before) / COUNT / 1024);
    REQUIRE(peak < before + most);
}

static void *use_whole_heap(void *unused)
{
    for (size_t n = 1; n <= 16 * MIB; n *= 2) {
        char *p = calloc(1, n), *q = memalign(4096, n);
        REQUIRE(p && q);
        p = realloc(p, n * 2);
        REQUIRE(p && malloc_usable_size(p) >= n * 2);
        free(p);
        free(q);
    }
    return unused;
}

CASE(small_stacks_suffice, "a thread on the smallest stack (PTHREAD_STACK_MIN) can allocate; "
                           "pthread_attr_setstacksize(3)")
{
    size_t smallest = (size_t)sysconf(_SC_THREAD_STACK_MIN);
    for (int i = 0; i < 6; i++) {
        run_thread(use_whole_heap, NULL, smallest);
        run_thread(use_whole_heap, NULL, 16384);
    }
}

static int in_c11_thread(void *argument)
{
    allocate_some(NULL);
    free(argument);
    return 42;
}

CASE(c11_threads_allocate, "thrd_create, thrd_exit; C17 7.26.5")
{
    for (int i = 0; i < 200; i++) {
        thrd_t thread;
        int result = 0;
        REQUIRE(thrd_create(&thread, in_c11_thread, malloc(50)) == thrd_success);
        REQUIRE(thrd_join(thread, &result) == thrd_success && result == 42);
    }
}

static atomic_int detached_done;

static void *run_detached(void *argument)
{
    allocate_some(NULL);
    free(argument);
    atomic_fetch_add(&detached_done, 1);
    return NULL;
}

CASE(detached_threads_allocate, "threads nobody joins; pthread_detach(3)")
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (int i = 0; i < 500; i++) {
        pthread_t thread;
        while (pthread_create(&thread, &attributes, run_detached, malloc(99)) != 0)
            sched_yield();
    }
    while (atomic_load(&detached_done) < 500)
        sched_yield();
}

/* --- ends of threads ------------------------------------------------------------------------- */

static void free_in_cleanup(void *p)
{
    free(p);
    free(malloc(1000));
}

static void *exit_with_cleanup(void *unused)
{
    pthread_cleanup_push(free_in_cleanup, malloc(100));
    pthread_exit(malloc(10));
    pthread_cleanup_pop(1);
    return unused;
}

CASE(pthread_exit_runs_cleanup_with_a_heap, "cleanup handlers allocate and free; pthread_exit(3)")
{
    for (int i = 0; i < 300; i++)
        free(run_thread(exit_with_cleanup, NULL, 0));
}

static atomic_int canceled_started;

static void *churn_until_canceled(void *unused)
{
    pthread_cleanup_push(free_in_cleanup, malloc(100));
    atomic_store(&canceled_started, 1);
    for (;;) {
        void *p[10];
        for (size_t i = 0; i < 10; i++)
            p[i] = malloc(i * 999);
        for (int i = 0; i < 10; i++)
            free(p[i]);
        pthread_testcancel();
    }
    pthread_cleanup_pop(1);
    return unused;
}

CASE(canceled_threads_leave_the_heap_whole, "threads ended by pthread_cancel in a loop; "
                                            "pthread_cancel(3)")
{
    for (int i = 0; i < 300; i++) {
        pthread_t thread;
        void *result;
        atomic_store(&canceled_started, 0);
        REQUIRE(pthread_create(&thread, NULL, churn_until_canceled, NULL) == 0);
        while (!atomic_load(&canceled_started))
            sched_yield();
        REQUIRE(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0);
        REQUIRE(result == PTHREAD_CANCELED);
        allocate_some(NULL);
    }
}

static atomic_int passed_malloc;

/* A pending cancellation must not act in any entry point. */
static void *allocate_while_canceled(void *unused)
{
    pthread_cancel(pthread_self());
    void *p[64];
    int count = 0;
    for (size_t n = 1; n <= 64 * MIB; n *= 4) {
        p[count++] = malloc(n);
        p[count++] = calloc(1, n);
        p[count++] = memalign(4096, n);
        p[count] = realloc(malloc(n), 2 * n);
        count++;
    }
    while (count > 0)
        free(p[--count]);
    malloc_trim(0);
    (void)mallinfo2();
    atomic_store(&passed_malloc, 1);
    pthread_testcancel();
    return unused;
}

CASE(malloc_is_no_cancellation_point, "not on the list of pthreads(7); cancellation stays pending")
{
    for (int i = 0; i < 20; i++) {
        atomic_store(&passed_malloc, 0);
        REQUIRE(run_thread(allocate_while_canceled, NULL, 0) == PTHREAD_CANCELED);
        REQUIRE(atomic_load(&passed_malloc));
    }
}

static void *go_on_without_main(void *main_thread)
{
    REQUIRE(pthread_join(*(pthread_t *)main_thread, NULL) == 0);
    for (int i = 0; i < 200; i++)
        allocate_some(NULL);
    for (int i = 0; i < 2000; i++)
        free(handed[i]);
    exit(0);
}

static void main_exits_first(void *unused)
{
    (void)unused;
    static pthread_t self;
    pthread_t thread;
    self = pthread_self();
    allocate_handed(NULL);
    REQUIRE(pthread_create(&thread, NULL, go_on_without_main, &self) == 0);
    pthread_exit(NULL);
}

CASE(main_thread_may_exit_first, "the others go on after pthread_exit in main; pthread_exit(3)")
{
    for (int i = 0; i < 20; i++)
        require_child(main_exits_first, NULL);
}

static void *churn_for_good(void *unused)
{
    for (;;)
        allocate_some(NULL);
    return unused;
}

static void return_while_others_run(void *unused)
{
    pthread_t thread;
    for (int i = 0; i < 3; i++)
        REQUIRE(pthread_create(&thread, NULL, churn_for_good, unused) == 0);
    sleep_milliseconds(5);
    exit(0);
}

CASE(exit_while_others_allocate,
     "exit() with threads in malloc ends with the status given; exit(3)")
{
    for (int i = 0; i < 40; i++)
        require_child(return_while_others_run, NULL);
}
