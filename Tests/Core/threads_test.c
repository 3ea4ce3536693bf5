/* SPDX-License-Identifier: MIT */
/* The heap and several threads at once: remote frees, ended threads. */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "ended.h"
#include "exchanged.h"
#include "os.h"
#include "refill.h"
#include "root.h"
#include "span.h"
#include "thread.h"
#include "trim.h"

/* -- many threads, a shared table of objects ----------------------------------------------- */

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
 * once, and no more slots than the objects need. */
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
    /* What each of them had left behind for nobody would be many times as much. */
    REQUIRE(late.cached <= 4 * late.used + (16 << 20));
    check_places();
    end_places();
    mc_heap_trim();
    mc_heap_check();
    mc_heap_totals(&late);
    REQUIRE_EQUAL(late.used + late.cached, 0);
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

/* Uses all of a span, with pages purged in the middle of slots that are in use again. */
static void *use_up_trimmed(void *argument)
{
    enum { PAGES = 3, SIZE = PAGES * MC_PAGE };
    void *first = mc_alloc(SIZE), *last = first;
    const struct mc_span *span = mc_span_of(first);
    REQUIRE(mc_slot_size(span) == SIZE && span->slot_count > 2);
    for (uint32_t i = 1; i < span->slot_count; i++)
        last = mc_alloc(SIZE);
    REQUIRE(mc_span_of(last) == span && !span->free);
    mc_free(last);
    mc_trim_thread(mc_self);
    REQUIRE(span->purged && !span->free);
    REQUIRE(mc_alloc(SIZE) == last && span->purged && !span->free);
    *(uint64_t *)argument = SIZE;
    return 0;
}

/* Such a span looks as if it had more, and has not: whoever adopts it goes on to the next. */
static void adopted_in_vain(void)
{
    pthread_t thread;
    uint64_t size;
    mc_free(mc_alloc(100));
    for (unsigned i = 0; i < 3; i++) {
        REQUIRE(!pthread_create(&thread, 0, use_up_trimmed, &size));
        join(&thread, 1);
        mc_threads_reap();
    }
    for (unsigned i = 0; i < 50; i++)
        REQUIRE(mc_alloc(size));
    mc_heap_check();
}

static void *free_table(void *argument)
{
    (void)argument;
    end_places();
    return 0;
}

/* What a thread that only ever frees still held when it ended is found. */
static void only_frees(void)
{
    pthread_t thread;
    struct mc_heap_totals totals;
    fill_table((void *)100);
    REQUIRE(!pthread_create(&thread, 0, free_table, 0));
    join(&thread, 1);
    REQUIRE_EQUAL(memctl_heap_root.thread_count, 2);
    mc_heap_trim();
    mc_heap_check();
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used + totals.cached, 0);
}

/* -- the first thing a thread does is to free ----------------------------------------------- */

static struct mc_thread *left_by; /* whose struct what is in the table was made with */

static void *leave_table(void *tagged)
{
    fill_table((void *)100);
    left_by = mc_self;
    if (tagged) REQUIRE(mc_tag_set(places[0], 1, 100));
    return 0;
}

/* All of it is its own then: nothing is cached, or on its way to an owner. */
static void *go_on_with_table(void *argument)
{
    (void)argument;
    REQUIRE(mc_self == &mc_thread_none);
    struct mc_span *span = mc_span_of(places[0]);
    end_object(places[0]);
    places[0] = 0;
    REQUIRE(mc_self == left_by && left_by->state == MC_THREAD_LIVE);
    REQUIRE(span->owner == (uint64_t)mc_self && !span->remote);
    end_places();
    REQUIRE(!mc_self->cache && !mc_self->notified);
    REQUIRE(mc_alloc(100));
    mc_heap_check();
    return 0;
}

static void inherit(int tagged, int noticed)
{
    pthread_t thread;
    REQUIRE(!pthread_create(&thread, 0, leave_table, tagged ? &left_by : 0));
    join(&thread, 1);
    mc_free(mc_alloc(5000)); /* with the same struct, unless somebody else has it */
    REQUIRE(mc_self == left_by);
    REQUIRE(!pthread_create(&thread, 0, leave_table, tagged ? &left_by : 0));
    join(&thread, 1);
    REQUIRE(mc_self != left_by);
    if (noticed) mc_threads_reap();
    REQUIRE(!pthread_create(&thread, 0, go_on_with_table, 0));
    join(&thread, 1);
    mc_heap_check();
}

static void inherits(void)
{
    inherit(0, 0);
}

static void inherits_tagged(void)
{
    inherit(1, 0);
}

static void inherits_noticed(void)
{
    inherit(0, 1);
}

static void *free_one(void *argument)
{
    mc_free(argument);
    REQUIRE(mc_self == &mc_thread_none);
    return 0;
}

/* The owner lives: its struct stays its own, and the slot is one that another freed. */
static void inherits_no_living(void)
{
    pthread_t thread;
    void *object = mc_alloc(100);
    REQUIRE(!pthread_create(&thread, 0, free_one, object));
    join(&thread, 1);
    REQUIRE_EQUAL(mc_remote_count(mc_span_of(object)->remote), 1);
    mc_heap_check();
}

static int started; /* [shared] threads that have spans of all small classes */

static void *leave_empty_spans(void *argument)
{
    (void)argument;
    for (size_t size = 16; size <= MC_DIRECT_MAX; size += 16) {
        void *objects[64]; /* enough to have slots of its own class */
        for (unsigned i = 0; i < 64; i++)
            objects[i] = mc_alloc(size);
        for (unsigned i = 0; i < 64; i++)
            mc_free(objects[i]);
    }
    __atomic_add_fetch(&started, 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&started, __ATOMIC_ACQUIRE) < THREADS)
        sched_yield();
    return 0;
}

/* A heap that grows uses the empty spans of threads that ended, but for one, before it grows on. */
static void found_by_growth(size_t size)
{
    enum { GROWTH = 16 << 20 };
    pthread_t threads[THREADS];
    unsigned unnoticed = 0;
    struct mc_heap_totals before, after;
    start(threads, THREADS, leave_empty_spans);
    join(threads, THREADS);
    REQUIRE_EQUAL(memctl_heap_root.thread_count, THREADS);
    mc_heap_totals(&before);
    for (uint64_t grown = 0; grown < GROWTH; grown += size)
        REQUIRE(mc_alloc(size));
    for (struct mc_thread *thread = mc_thread_first(); thread; thread = mc_thread_next(thread))
        unnoticed += thread != mc_self && thread->state != MC_THREAD_FREE;
    REQUIRE(unnoticed <= 1);
    mc_heap_totals(&after);
    uint64_t taken = (after.reserved - after.free_slices) - (before.reserved - before.free_slices);
    REQUIRE(taken < GROWTH);
    mc_heap_check();
}

static void found_by_small_growth(void)
{
    found_by_growth(2000);
}

static void found_by_large_growth(void)
{
    found_by_growth(300000);
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

static const struct test_case cases[] = {
    {"exchanges", exchanges, 0},
    {"handed_over", handed_over, 0},
    {"linked_nodes", linked_nodes, 0},
    {"short_threads", short_threads, 0},
    {"adoption", adoption, 0},
    {"only_frees", only_frees, 0},
    {"adopted_in_vain", adopted_in_vain, 0},
    {"inherits", inherits, 0},
    {"inherits_tagged", inherits_tagged, 0},
    {"inherits_noticed", inherits_noticed, 0},
    {"inherits_no_living", inherits_no_living, 0},
    {"found_by_small_growth", found_by_small_growth, 0},
    {"found_by_large_growth", found_by_large_growth, 0},
    {"idle_threads", idle_threads, 0},
};
TEST_MAIN(cases)
