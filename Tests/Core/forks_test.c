/* SPDX-License-Identifier: MIT */
/* The heap in forked processes: forks while other threads are in the middle of it, and in handlers. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "exchanged.h"
#include "os.h"
#include "root.h"
#include "span.h"
#include "thread.h"

/* Spans of the one thread that a forked child has; others were caught in the middle. */
static void check_own_spans(void)
{
    for (unsigned pool = 0; pool < MC_SPAN_POOLS_MAX && mc_span_pools[pool].start; pool++) {
        const struct mc_span *span = (struct mc_span *)mc_span_pools[pool].start;
        for (unsigned i = 0; i < MC_SPAN_POOL_COUNT; i++, span++) {
            if (span->state == MC_SPAN_CLASS && span->owner == (uint64_t)mc_self)
                mc_span_check(span);
        }
    }
}

static struct object *own[200]; /* of the forking thread */

static void *use_in_child(void *argument)
{
    struct random random = test_random((uint64_t)argument);
    for (unsigned i = 0; i < 2000; i++)
        exchange_one(&random);
    return 0;
}

static void use_forked(void *argument)
{
    pthread_t threads[2];
    struct random random = test_random((uint64_t)argument);
    for (unsigned i = 0; i < 200; i++) {
        if (own[i]) check_object(own[i]);
    }
    check_own_spans();
    for (unsigned i = 0; i < 3000; i++) { /* objects of threads that are not here are freed too */
        exchange_one(&random);
        struct object **place = &own[random_below(&random, 200)];
        if (*place) end_object(*place);
        *place = make_object(some_size(&random));
    }
    check_own_spans();
    start(threads, 2, use_in_child);
    join(threads, 2);
    end_places();
    mc_heap_trim();
    check_own_spans();
}

static void forks(void)
{
    pthread_t threads[THREADS];
    struct random random = test_random(50);
    char text[1024];
    rounds = UINT64_MAX;
    pthread_barrier_init(&all_done, 0, THREADS);
    start(threads, THREADS, exchange);
    for (uint64_t i = 0; i < test_scale(150); i++) {
        for (unsigned k = 0; k < 100; k++) {
            struct object **place = &own[random_below(&random, 200)];
            if (*place) end_object(*place);
            *place = make_object(some_size(&random));
        }
        int status = test_in_child(use_forked, (void *)i, text, sizeof(text));
        if (status) fputs(text, stderr);
        REQUIRE_EQUAL(status, 0);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    join(threads, THREADS);
    for (unsigned i = 0; i < 200; i++) {
        if (own[i]) end_object(own[i]);
    }
    check_places();
}

/* The child of a child of a child. */
static void fork_again(void *argument)
{
    uint64_t depth = (uint64_t)argument;
    char text[256];
    use_forked(argument);
    if (depth < 6)
        REQUIRE_EQUAL(test_in_child(fork_again, (void *)(depth + 1), text, sizeof(text)), 0);
}

static void fork_chain(void)
{
    char text[256];
    use_in_child((void *)1);
    REQUIRE_EQUAL(test_in_child(fork_again, 0, text, sizeof(text)), 0);
    check_places();
}

/* A process that used no heap yet forks: the child starts anew, and knows that it is one. */
static void fork_first(void)
{
    char text[256];
    REQUIRE_EQUAL(test_in_child(use_forked, 0, text, sizeof(text)), 0);
    use_in_child((void *)1);
    check_places();
}

static void adopt_in_child(void *argument)
{
    struct mc_heap_totals totals;
    (void)argument;
    end_places();
    mc_heap_trim();
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used + totals.cached, 0);
}

/* Threads that had ended before the fork, and were found to have, left spans that serve the child. */
static void fork_after_threads(void)
{
    pthread_t thread;
    char text[256];
    mc_free(mc_alloc(100));
    REQUIRE(!pthread_create(&thread, 0, fill_table, (void *)1000));
    join(&thread, 1);
    mc_heap_trim();
    int status = test_in_child(adopt_in_child, 0, text, sizeof(text));
    fputs(text, stderr);
    REQUIRE_EQUAL(status, 0);
}

/* In a forked child: its first thread ends, another takes its struct over. */
static void *allocate_second(void *argument)
{
    (void)argument;
    mc_free(mc_alloc(100));
    REQUIRE(mc_os_forked()); /* until whoever asked for it says otherwise */
    _exit(0);
}

static void *allocate_first(void *argument)
{
    pthread_t thread;
    struct mc_thread *first = argument;
    while (__atomic_load_n(&first->state, __ATOMIC_ACQUIRE) != MC_THREAD_FREE) {
        sleep_ms(1);
        mc_heap_trim();
    }
    REQUIRE(!pthread_create(&thread, 0, allocate_second, 0));
    pthread_join(thread, 0);
    return 0;
}

static void leave_to_others(void *argument)
{
    pthread_t thread;
    (void)argument;
    mc_free(mc_alloc(100000));
    REQUIRE(mc_os_forked());
    REQUIRE(!pthread_create(&thread, 0, allocate_first, mc_self));
    pthread_exit(0);
}

static void fork_stays_known(void)
{
    char text[256];
    mc_free(mc_alloc(100));
    REQUIRE(!mc_os_forked());
    int status = test_in_child(leave_to_others, 0, text, sizeof(text));
    fputs(text, stderr);
    REQUIRE_EQUAL(status, 0);
    REQUIRE(!mc_os_forked());
}

/* In a forked child whose thread was in the middle of an allocation: that goes on later, in the struct that
 * the thread left meanwhile. */
static void leave_own(void *argument)
{
    struct mc_thread *left = mc_self;
    struct mc_serving *serving = mc_direct_serving(40);
    (void)argument;
    mc_thread_leave();
    REQUIRE(mc_self != left && mc_self != &mc_thread_none);
    REQUIRE_EQUAL(left->state, MC_THREAD_LOST);
    use_forked((void *)1);
    mc_heap_check();
    REQUIRE(mc_direct_serving(40) != serving);
    void *late = mc_serving_pop(serving);
    REQUIRE(late);
    memset(late, 1, 40);
    mc_free(late);
    use_forked((void *)2);
    mc_heap_check();
}

static void child_leaves_a_struct(void)
{
    char text[256];
    use_in_child((void *)1);
    mc_free(mc_alloc(40));
    int status = test_in_child(leave_own, 0, text, sizeof(text));
    fputs(text, stderr);
    REQUIRE_EQUAL(status, 0);
    check_places();
}

static timer_t timer;

/* Once, set anew at the end of each handler: the program gets on however long a fork takes. */
static void arm_timer(void)
{
    struct itimerspec once = {{0, 0}, {0, 5000000}};
    if (timer_settime(timer, 0, &once, 0)) _exit(1);
}

/* Signals that interrupt the main thread fork; the child does no more than leave. */
static void fork_in_handler(int number)
{
    (void)number;
    pid_t child = fork();
    if (!child) _exit(0);
    int status = -1;
    while (child > 0 && waitpid(child, &status, 0) < 0) {
    }
    if (status) _exit(1);
    arm_timer();
}

static void forks_in_handlers(void)
{
    struct random random = test_random(60);
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    REQUIRE(!timer_create(CLOCK_MONOTONIC, &event, &timer));
    arm_timer();
    for (uint64_t i = 0; i < test_scale(200000); i++)
        exchange_one(&random);
    timer_delete(timer);
    check_places();
}

static const struct test_case cases[] = {
    {"forks", forks, 480},
    {"fork_chain", fork_chain, 0},
    {"fork_first", fork_first, 0},
    {"fork_after_threads", fork_after_threads, 0},
    {"fork_stays_known", fork_stays_known, 0},
    {"child_leaves_a_struct", child_leaves_a_struct, 0},
    {"forks_in_handlers", forks_in_handlers, 0},
};
TEST_MAIN(cases)
