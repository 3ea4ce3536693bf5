/* SPDX-License-Identifier: MIT */
/* Requests for slots, as the heap's structures count them by class: equal to those of a program that
 * counts itself, whoever freed the slots, and whatever became of spans and threads. */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "cache.h"
#include "heap.h"
#include "limits.h"
#include "os_faulty.h"
#include "root.h"
#include "span.h"
#include "structs.h"
#include "test.h"
#include "thread.h"

static uint64_t wanted[MC_COUNTED_CLASSES];
static uint64_t refused[MC_COUNTED_CLASSES];

/* As memctl adds it up. */
static void add_up(uint64_t *taken)
{
    memcpy(taken, mc_root()->slots_taken, sizeof(mc_root()->slots_taken));
    for (uint64_t i = 0; i < mc_root()->span_count; i++) {
        const struct mc_span *span =
            (const struct mc_span *)mc_span_pools[i / MC_SPAN_POOL_COUNT].start;
        span += i % MC_SPAN_POOL_COUNT;
        taken[span->class_index] += span->allocations;
    }
    for (struct mc_thread *thread = mc_thread_first(); thread; thread = mc_thread_next(thread)) {
        const struct mc_span *lists = (const struct mc_span *)thread->cache;
        for (unsigned i = 0; lists && i < MC_CACHE_CLASSES; i++)
            taken[i] += lists[i].allocations;
        for (unsigned i = 0; i < MC_DIRECT_CLASSES; i++)
            taken[i] += mc_counts_allocations(thread->serving[i].counts);
    }
}

static void compare(void)
{
    uint64_t taken[MC_COUNTED_CLASSES];
    add_up(taken);
    mc_heap_check();
    for (unsigned i = 0; i < MC_COUNTED_CLASSES; i++) {
        if (taken[i] != wanted[i]) fprintf(stderr, "class %u\n", i);
        REQUIRE_EQUAL(taken[i], wanted[i]);
        REQUIRE_EQUAL(mc_root()->slots_refused[i], refused[i]);
    }
}

static void *counted(void *object)
{
    REQUIRE(object);
    mc_add(&wanted[mc_span_of(object)->class_index], 1);
    return object;
}

static size_t some_size(struct random *random)
{
    uint64_t kind = random_below(random, 100);
    if (kind < 70) return random_below(random, 2048);
    if (kind < 97) return random_below(random, MC_SMALL_MAX);
    return random_below(random, kind < 99 ? 400000 : 2 * MC_LARGE_MAX);
}

static void *make(struct random *random)
{
    size_t size = some_size(random), align = 1ull << random_below(random, 16);
    switch (random_below(random, 5)) {
    case 0: return counted(mc_alloc_aligned(size, align));
    case 1: return counted(mc_alloc_slow(size, 1));
    case 2: return counted(mc_alloc_owned(size, align, 0));
    case 3: return counted(mc_alloc_growing(size < MC_GROW_MIN ? MC_GROW_MIN : size));
    default: return counted(mc_alloc(size));
    }
}

/* -- one thread ---------------------------------------------------------------------------- */

enum { PLACES = 4000 };
static void *places[PLACES];

static void free_all(void)
{
    for (unsigned i = 0; i < PLACES; i++) {
        if (places[i]) mc_free(places[i]);
        places[i] = 0;
    }
}

/* Spans come and go, and their structs serve one class after the other. Resizing in place is no
 * request. */
static void one_thread(void)
{
    struct random random = test_random(200);
    for (uint64_t round = 0; round < test_scale(40); round++) {
        for (unsigned i = 0; i < 5000; i++) {
            unsigned place = (unsigned)random_below(&random, PLACES);
            if (places[place] && random_below(&random, 2)) {
                void *moved = mc_realloc_in_place(places[place], some_size(&random));
                if (moved) places[place] = moved;
                continue;
            }
            if (places[place]) mc_free(places[place]);
            places[place] = make(&random);
        }
        if (round % 3 == 0) free_all();
        if (round % 4 == 0) mc_heap_trim();
        compare();
    }
    free_all();
    compare();
}

/* -- many ---------------------------------------------------------------------------------- */

static void *exchange(void *argument)
{
    struct random random = test_random((uint64_t)argument);
    for (uint64_t i = 0; i < test_scale(20000); i++) {
        void **place = &places[random_below(&random, PLACES)];
        void *old = __atomic_exchange_n(place, make(&random), __ATOMIC_ACQ_REL);
        if (old) mc_free(old);
    }
    return 0;
}

/* Each frees what others made, and serves itself from that; threads end, and others take over. */
static void many_threads(void)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    for (uint64_t round = 0; round < 4; round++) {
        for (uint64_t i = 0; i < THREADS; i++)
            REQUIRE(!pthread_create(&threads[i], 0, exchange, (void *)(300 + round * THREADS + i)));
        for (unsigned i = 0; i < THREADS; i++)
            pthread_join(threads[i], 0);
        compare();
    }
    free_all();
    mc_heap_trim();
    compare();
}

/* A cached slot can have no tag: it is given back and another taken, which is one request. */
static void *free_places(void *unused)
{
    free_all();
    for (unsigned i = 0; i < 200; i++)
        places[i] = counted(mc_alloc_owned(64, MC_QUANTUM, 0));
    return unused;
}

static void owned(void)
{
    pthread_t thread;
    for (unsigned i = 0; i < PLACES; i++)
        places[i] = counted(mc_alloc(64));
    REQUIRE(!pthread_create(&thread, 0, free_places, 0));
    pthread_join(thread, 0);
    compare();
}

/* -- refusals ------------------------------------------------------------------------------ */

static void no_memory(void)
{
    unsigned count = 0;
    places[count++] = counted(mc_alloc(2000));
    os_faults.kinds = OS_RESERVE | OS_MAP | OS_COMMIT | OS_RESIZE;
    os_faults.fail_at = os_faults.calls;
    os_faults.fail_count = UINT64_MAX;
    unsigned class_index = mc_span_of(places[0])->class_index;
    for (void *object; (object = mc_alloc(2000)) && count < PLACES; count++)
        places[count] = counted(object);
    refused[class_index]++;
    REQUIRE(count < PLACES);
    REQUIRE(!mc_alloc_aligned(2000, 16) && !mc_alloc_owned(2000, 32, 1));
    refused[class_index] += 2;
    REQUIRE(!mc_alloc(5 << 20) && !mc_alloc_growing(3 << 20) && !mc_alloc_aligned(1, 1 << 20));
    refused[MC_CLASS_LARGE] += 3;
    REQUIRE(!mc_alloc(100 << 20) && !mc_alloc(SIZE_MAX) && !mc_alloc_aligned(SIZE_MAX, 64));
    refused[MC_CLASS_HUGE] += 3;
    compare();
    free_all();
}

/* A list's `used` is below 0, and its allocations are right all the same. */
static void words(void)
{
    uint64_t counts = 0;
    for (unsigned i = 1; i <= MC_CACHE_SLOTS; i++) {
        counts -= 1;
        REQUIRE_EQUAL(mc_counts_allocations(counts), 0);
        REQUIRE_EQUAL(mc_counts_listed(counts), i);
    }
    for (unsigned i = 1; i <= MC_CACHE_SLOTS; i++) {
        counts += MC_COUNTS_ALLOCATION;
        REQUIRE_EQUAL(mc_counts_allocations(counts), i);
        REQUIRE_EQUAL(mc_counts_listed(counts), MC_CACHE_SLOTS - i);
    }
    counts = (1ull << 48) - 1; /* the last before it goes round */
    counts = counts << MC_COUNTS_SHIFT | 5;
    REQUIRE_EQUAL(mc_counts_allocations(counts), (1ull << 48) - 1);
    counts += MC_COUNTS_ALLOCATION;
    REQUIRE_EQUAL(mc_counts_allocations(counts), 0);
    REQUIRE_EQUAL((uint16_t)counts, 6);
}

/* A struct counts to 2^32, and the root its rounds: slots of a span, of the cache, large ones. */
static void rounds(void)
{
    static const size_t sizes[] = {5000, 100000, 3 << 20};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        void *object = mc_alloc(sizes[i]);
        REQUIRE(object);
        struct mc_span *span = mc_span_of(object);
        const uint64_t *taken = &mc_root()->slots_taken[span->class_index];
        mc_free(object);
        uint64_t before = *taken, rest = span->allocations;
        span->allocations = UINT32_MAX;
        REQUIRE((object = mc_alloc(sizes[i])) && mc_span_of(object) == span);
        REQUIRE_EQUAL(span->allocations, 0);
        REQUIRE_EQUAL(*taken, before + (1ull << 32));
        mc_span_count_returned(span);
        REQUIRE_EQUAL(span->allocations, UINT32_MAX);
        REQUIRE_EQUAL(*taken, before);
        span->allocations = (uint32_t)rest + 1;
        mc_free(object);
        mc_heap_check();
    }
}

static const struct test_case cases[] = {
    {"requests_one_thread", one_thread, 240},
    {"requests_many_threads", many_threads, 240},
    {"requests_owned", owned, 0},
    {"requests_refused", no_memory, 0},
    {"requests_words", words, 0},
    {"requests_rounds", rounds, 0},
};
TEST_MAIN(cases)
