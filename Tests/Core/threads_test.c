/* SPDX-License-Identifier: MIT */
/* The heap and several threads at once: remote frees, ended threads, forks in the middle. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "heap.h"
#include "limits.h"
#include "os.h"
#include "root.h"
#include "span.h"
#include "test.h"
#include "thread.h"

/* An object says how large it is and is filled with what follows from that and its address. */
struct object {
    uint64_t size;
    uint64_t check;
    unsigned char rest[];
};

static uint64_t check_for(const struct object *object)
{
    return (object->size ^ (uint64_t)object) * 0x9e3779b97f4a7c15ull;
}

static struct object *make_object(size_t size)
{
    struct object *object = mc_alloc(size);
    REQUIRE(object && mc_usable_size(object, "") >= size);
    object->size = size;
    object->check = check_for(object);
    memset(object->rest, (int)size, size - sizeof(*object) < 256 ? size - sizeof(*object) : 256);
    if (size > sizeof(*object)) ((unsigned char *)object)[size - 1] = (unsigned char)size;
    return object;
}

static void check_object(const struct object *object)
{
    REQUIRE_EQUAL(object->check, check_for(object));
    for (size_t at = 0; at < 256 && at < object->size - sizeof(*object); at++)
        REQUIRE_EQUAL(object->rest[at], (unsigned char)object->size);
    REQUIRE(object->size == sizeof(*object) ||
            ((const unsigned char *)object)[object->size - 1] == (unsigned char)object->size);
}

static void end_object(struct object *object)
{
    check_object(object);
    object->check = 0;
    mc_free(object);
}

static size_t some_size(struct random *random)
{
    uint64_t kind = random_below(random, 200);
    if (kind < 180) return sizeof(struct object) + random_below(random, 500);
    if (kind < 199) return sizeof(struct object) + random_below(random, MC_SMALL_MAX);
    return MC_SMALL_MAX + random_below(random, 200000);
}

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, 0);
}

/* -- many threads, a shared table of objects ----------------------------------------------- */

enum { THREADS = 4, PLACES = 2048 };
static struct object *places[PLACES]; /* [shared] exchanged */
static int stop;
static uint64_t rounds;

/* Puts a new object, or none, in a random place, and ends the one that was there, whose ever. */
static void exchange_one(struct random *random)
{
    struct object *fresh = random_below(random, 10) < 6 ? make_object(some_size(random)) : 0;
    struct object **place = &places[random_below(random, PLACES)];
    struct object *old = __atomic_exchange_n(place, fresh, __ATOMIC_ACQ_REL);
    if (old) end_object(old);
}

static pthread_barrier_t all_done;

static void *exchange(void *argument)
{
    struct random random = test_random((uint64_t)argument);
    for (uint64_t i = 0; i < rounds && !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        exchange_one(&random);
        if (i % 20000 == 19999) mc_heap_trim();
    }
    /* Nobody takes a struct over before its thread was joined: that a thread has ended the heap
     * learns from the kernel, which ThreadSanitizer does not see. */
    pthread_barrier_wait(&all_done);
    return 0;
}

static void start(pthread_t *threads, unsigned count, void *(*function)(void *))
{
    for (unsigned i = 0; i < count; i++)
        REQUIRE(!pthread_create(&threads[i], 0, function, (void *)(uint64_t)(i + 1)));
}

static void join(pthread_t *threads, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        REQUIRE(!pthread_join(threads[i], 0));
}

static void check_places(void)
{
    struct mc_heap_totals totals;
    uint64_t used = 0, count = 0;
    for (unsigned i = 0; i < PLACES; i++) {
        if (!places[i]) continue;
        check_object(places[i]);
        used += mc_usable_size(places[i], "");
        count++;
    }
    mc_heap_check();
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used, used);
    REQUIRE_EQUAL(totals.used_slots, count);
}

static void end_places(void)
{
    for (unsigned i = 0; i < PLACES; i++) {
        if (places[i]) end_object(places[i]);
        places[i] = 0;
    }
}

static void exchanges(void)
{
    pthread_t threads[THREADS];
    rounds = test_scale(300000);
    pthread_barrier_init(&all_done, 0, THREADS);
    for (unsigned round = 0; round < 3; round++) { /* each time by new threads, that take over */
        start(threads, THREADS, exchange);
        join(threads, THREADS);
        check_places();
    }
    end_places();
    mc_heap_trim();
    mc_heap_check();
    struct mc_heap_totals totals;
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used, 0);
    REQUIRE_EQUAL(totals.cached, 0); /* spans of ended threads went back too */
    REQUIRE_EQUAL(totals.free_slices, totals.reserved);
    REQUIRE(memctl_heap_root.thread_count <= 2 * THREADS + 1); /* one may be seized just then */
}

/* One makes, another ends: every free is remote. */
enum { QUEUE = 1024 };
static struct object *queue[QUEUE];

static void *consume(void *argument)
{
    (void)argument;
    for (uint64_t i = 0; i < rounds; i++) {
        struct object *object;
        while (!(object = __atomic_exchange_n(&queue[i % QUEUE], 0, __ATOMIC_ACQUIRE)))
            sched_yield();
        end_object(object);
    }
    return 0;
}

static void handed_over(void)
{
    pthread_t thread;
    struct random random = test_random(30);
    struct mc_heap_totals totals;
    rounds = test_scale(300000);
    start(&thread, 1, consume);
    for (uint64_t i = 0; i < rounds; i++) {
        while (__atomic_load_n(&queue[i % QUEUE], __ATOMIC_ACQUIRE))
            sched_yield();
        __atomic_store_n(&queue[i % QUEUE], make_object(some_size(&random)), __ATOMIC_RELEASE);
    }
    join(&thread, 1);
    mc_heap_check();
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used, 0);
    REQUIRE(totals.reserved < 256 << 20); /* what was freed was used again */
}

/* The program's own lists look like the heap's: each new node points at an object that another
 * thread is freeing just then, in a span that has purged parts. None of it is a double free. */
static void *consume_plainly(void *argument)
{
    (void)argument;
    for (uint64_t i = 0; i < rounds; i++) {
        void *object;
        while (!(object = __atomic_exchange_n(&queue[i % QUEUE], 0, __ATOMIC_ACQUIRE)))
            sched_yield();
        mc_free(object);
    }
    return 0;
}

static void linked_nodes(void)
{
    enum { SIZE = 64, NODES = 1000 };
    static void *kept[NODES];
    pthread_t thread;
    rounds = test_scale(3000000);
    start(&thread, 1, consume_plainly);
    for (uint64_t i = 0; i < rounds; i++) {
        if (i % 5000 == 0) { /* pages with free slots only, between others */
            for (unsigned k = 0; k < NODES; k++)
                kept[k] = mc_alloc(SIZE);
            for (unsigned k = 0; k < NODES; k++)
                if (k % 150) mc_free(kept[k]);
            mc_heap_trim();
            for (unsigned k = 0; k < NODES; k += 150)
                mc_free(kept[k]);
        }
        while (__atomic_load_n(&queue[i % QUEUE], __ATOMIC_ACQUIRE))
            sched_yield();
        void *object = mc_alloc(SIZE), *nodes[8];
        __atomic_store_n(&queue[i % QUEUE], (struct object *)object, __ATOMIC_RELEASE);
        for (unsigned k = 0; k < 8; k++) {
            nodes[k] = mc_alloc(SIZE);
            *(void **)nodes[k] = object;
        }
        for (unsigned k = 0; k < 8; k++)
            mc_free(nodes[k]);
    }
    join(&thread, 1);
    mc_heap_trim();
    mc_heap_check();
}

/* -- threads that end ---------------------------------------------------------------------- */

static void *make_some(void *argument)
{
    struct random random = test_random(40 + (uint64_t)argument);
    for (unsigned i = 0; i < 8; i++) {
        struct object **place = &places[random_below(&random, PLACES)];
        struct object *old =
            __atomic_exchange_n(place, make_object(some_size(&random)), __ATOMIC_ACQ_REL);
        if (old) end_object(old);
    }
    return 0;
}

/* Thousands of threads, a few at a time, that leave objects behind: no more structs than ran at
 * once, and no more address space than the objects need. */
static void short_threads(void)
{
    pthread_t threads[THREADS];
    struct mc_heap_totals early, late;
    uint64_t count = test_scale(500);
    for (uint64_t i = 0; i < count; i++) {
        for (unsigned k = 0; k < THREADS; k++)
            REQUIRE(
                !pthread_create(&threads[k], 0, make_some, (void *)(uint64_t)(i * THREADS + k)));
        join(threads, THREADS);
        if (i == count / 8) mc_heap_totals(&early);
    }
    mc_heap_totals(&late);
    REQUIRE(memctl_heap_root.thread_count <= 2 * THREADS);
    /* More objects, so more spans, and perhaps a leaf or two of the page map, half a MiB each: where
     * the kernel puts an arena may be across a GiB's border. */
    REQUIRE(late.metadata <= early.metadata + (2 << 20));
    /* What every thread lost would be eight times as much by now; arenas double what there is. */
    REQUIRE(late.reserved <= 4 * early.reserved);
    check_places();
    end_places();
    mc_heap_trim();
    mc_heap_check();
    mc_heap_totals(&late);
    REQUIRE_EQUAL(late.used + late.cached, 0);
}

static void *fill_table(void *argument)
{
    for (unsigned i = 0; i < PLACES; i++)
        places[i] = make_object((size_t)argument);
    return 0;
}

/* The spans of a thread that ended serve others: its free slots are used, not new address space. */
static void adoption(void)
{
    enum { SIZE = 1000 };
    pthread_t thread;
    struct mc_heap_totals before, after;
    REQUIRE(!pthread_create(&thread, 0, fill_table, (void *)(size_t)SIZE));
    join(&thread, 1);
    for (unsigned i = 0; i < PLACES; i += 2) {
        end_object(places[i]);
        places[i] = 0;
    }
    mc_heap_trim(); /* looks after ended threads: what was freed is on their lists now */
    mc_heap_totals(&before);
    for (unsigned i = 0; i < PLACES; i += 2)
        places[i] = make_object(SIZE);
    mc_heap_totals(&after);
    check_places();
    REQUIRE(after.used - before.used >= PLACES / 2 * SIZE);
    REQUIRE_EQUAL(after.free_slices, before.free_slices);
    REQUIRE_EQUAL(after.reserved, before.reserved);
    end_places();
    mc_heap_trim();
    mc_heap_totals(&after);
    REQUIRE_EQUAL(after.used + after.cached, 0);
    REQUIRE_EQUAL(after.free_slices, after.reserved);
}

enum { TWO_A_SPAN = 104 << 10 }; /* of these slots a span holds two */

/* Leaves two live objects in a span of which parts were purged that no slot starts in. */
static void *leave_purged(void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < 2; i++)
        places[i] = make_object(TWO_A_SPAN);
    end_object(places[0]);
    mc_heap_trim();
    places[0] = make_object(TWO_A_SPAN);
    return 0;
}

/* A span that says it has purged parts, but whose slots are all live, is no span to serve from. */
static void adoption_of_full(void)
{
    pthread_t thread;
    REQUIRE(!pthread_create(&thread, 0, leave_purged, 0));
    join(&thread, 1);
    mc_heap_trim(); /* looks after ended threads */
    mc_heap_check();
    places[2] = make_object(TWO_A_SPAN);
    check_places();
    mc_heap_check();
    end_places();
    mc_heap_trim();
    mc_heap_check();
}

static void *free_table(void *argument)
{
    (void)argument;
    end_places();
    return 0;
}

/* A thread that only ever frees needs no struct. */
static void only_frees(void)
{
    pthread_t thread;
    struct mc_heap_totals totals;
    fill_table((void *)100);
    REQUIRE(!pthread_create(&thread, 0, free_table, 0));
    join(&thread, 1);
    REQUIRE_EQUAL(memctl_heap_root.thread_count, 1);
    mc_heap_trim();
    mc_heap_check();
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used + totals.cached, 0);
}

static uint64_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    REQUIRE(file && fscanf(file, "%*u %lu", &pages) == 1);
    fclose(file);
    return pages * 4096;
}

static int idle_phase; /* [shared] */

static void *use_and_idle(void *argument)
{
    void *objects[8];
    (void)argument;
    for (unsigned i = 0; i < 8; i++) {
        objects[i] = mc_alloc(1 << 20);
        memset(objects[i], 1, 1 << 20);
    }
    for (unsigned i = 0; i < 8; i++)
        mc_free(objects[i]);
    __atomic_add_fetch(&idle_phase, 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&idle_phase, __ATOMIC_ACQUIRE) <= THREADS)
        sleep_ms(10);
    return 0;
}

/* What idle threads freed goes back while another one works. */
static void idle_threads(void)
{
    pthread_t threads[THREADS];
    uint64_t before = resident_bytes();
    start(threads, THREADS, use_and_idle);
    while (__atomic_load_n(&idle_phase, __ATOMIC_ACQUIRE) < THREADS)
        sleep_ms(1);
    uint64_t after = resident_bytes();
    for (unsigned i = 0; i < 1000 && after > before + (6 << 20); i++) {
        mc_free(mc_alloc(100000)); /* time passes */
        sleep_ms(12);
        after = resident_bytes();
    }
    __atomic_add_fetch(&idle_phase, 1, __ATOMIC_RELEASE);
    join(threads, THREADS);
    if (after > before + (6 << 20))
        fprintf(stderr, "%llu MiB more resident\n", (unsigned long long)(after - before) >> 20);
    REQUIRE(after <= before + (6 << 20));
}

/* -- forks --------------------------------------------------------------------------------- */

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
    {"exchanges", exchanges, 0},
    {"handed_over", handed_over, 0},
    {"linked_nodes", linked_nodes, 0},
    {"short_threads", short_threads, 0},
    {"adoption_of_full", adoption_of_full, 0},
    {"adoption", adoption, 0},
    {"only_frees", only_frees, 0},
    {"idle_threads", idle_threads, 0},
    {"forks", forks, 480},
    {"fork_chain", fork_chain, 0},
    {"fork_first", fork_first, 0},
    {"fork_after_threads", fork_after_threads, 0},
    {"fork_stays_known", fork_stays_known, 0},
    {"forks_in_handlers", forks_in_handlers, 0},
};
TEST_MAIN(cases)
