/* SPDX-License-Identifier: MIT */
/* Proxies serve no frees of a span that has tags or purged parts, from the first of them on. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "hooks.h"
#include "proxies.h"
#include "refill.h"
#include "span.h"

enum { TAG = 7 };
static uint64_t taken; /* sum of the tags that frees took off */

static void note_free(void *object, size_t usable, size_t requested, uint64_t tag)
{
    (void)object;
    (void)usable;
    (void)requested;
    __atomic_add_fetch(&taken, tag, __ATOMIC_RELAXED);
}

/* -- by turns -------------------------------------------------------------------------------- */

static void *meet_tags(void *unused)
{
    REQUIRE(mc_thread_attach());
    for (unsigned i = 0; i < 20; i++)
        mc_free(objects[i]);
    REQUIRE(is_short(objects[20]));
    pthread_barrier_wait(&turns);
    pthread_barrier_wait(&turns);
    REQUIRE(!is_short(objects[20]) && proxy_of(objects[0])->free);
    mc_free(objects[20]);
    REQUIRE_EQUAL(taken, TAG);
    mc_free(objects[21]);
    REQUIRE(!is_short(objects[22]));
    mc_heap_check();
    pthread_barrier_wait(&turns);
    pthread_barrier_wait(&turns);
    mc_free(objects[22]);
    REQUIRE(is_short(objects[23])); /* there are no tags any more */
    for (unsigned i = 23; i < SPAN / 2; i++)
        mc_free(objects[i]);
    mc_heap_check();
    return unused;
}

static void tags_stop(void)
{
    pthread_t thread;
    on_tagged_free = note_free;
    REQUIRE(!pthread_barrier_init(&turns, 0, 2));
    fill(SIZE, SPAN);
    REQUIRE(!pthread_create(&thread, 0, meet_tags, 0));
    pthread_barrier_wait(&turns);
    REQUIRE(mc_tag_set(objects[20], SIZE, TAG));
    pthread_barrier_wait(&turns);
    pthread_barrier_wait(&turns);
    for (unsigned i = SPAN / 2; i < SPAN; i++)
        mc_free(objects[i]); /* looks now and then whether there are tags */
    REQUIRE(!(mc_span_of(objects[0])->flags & MC_SPAN_TAGGED));
    pthread_barrier_wait(&turns);
    REQUIRE(!pthread_join(thread, 0));
    nothing_left();
}

static void free_again(void *place)
{
    mc_free(place);
}

static void dies(void *place)
{
    char text[256];
    int status = test_in_child(free_again, place, text, sizeof(text));
    REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    REQUIRE(strstr(text, "memctl: free(): double free"));
}

static void *meet_purged(void *unused)
{
    REQUIRE(mc_thread_attach());
    for (unsigned i = 0; i < 20; i++)
        mc_free(objects[i]);
    REQUIRE(is_short(objects[SPAN - 1]));
    dies(objects[5]);
    dies(objects[19]);
    pthread_barrier_wait(&turns);
    pthread_barrier_wait(&turns);
    REQUIRE(!is_short(objects[SPAN - 1]));
    dies(objects[SPAN - 1]);
    dies(objects[5]);
    mc_heap_check();
    return unused;
}

static void purged_parts_stop(void)
{
    pthread_t thread;
    REQUIRE(!pthread_barrier_init(&turns, 0, 2));
    fill(SIZE, SPAN);
    REQUIRE(!pthread_create(&thread, 0, meet_purged, 0));
    pthread_barrier_wait(&turns);
    for (unsigned i = SPAN / 2; i < SPAN; i++)
        mc_free(objects[i]);
    mc_heap_trim();
    REQUIRE(mc_span_of(objects[0])->purged);
    pthread_barrier_wait(&turns);
    REQUIRE(!pthread_join(thread, 0));
}

/* -- at the same time -------------------------------------------------------------------------- */

enum { BATCH = 64, DEPTH = 4 };
static struct {
    int full; /* [shared] */
    void *object[BATCH];
} queue[DEPTH];
static uint64_t given, batches;

static void wait_for(int *place, int value)
{
    while (__atomic_load_n(place, __ATOMIC_ACQUIRE) != value)
        sched_yield();
}

static void *take(void *unused)
{
    for (uint64_t i = 0; i < batches; i++) {
        wait_for(&queue[i % DEPTH].full, 1);
        for (unsigned k = 0; k < BATCH; k++)
            mc_free(queue[i % DEPTH].object[k]);
        __atomic_store_n(&queue[i % DEPTH].full, 0, __ATOMIC_RELEASE);
    }
    return unused;
}

/* Tags come and go while another thread frees: none is passed over. */
static void no_tag_is_lost(void)
{
    struct random random = test_random(1);
    pthread_t thread;
    on_tagged_free = note_free;
    batches = test_scale(20000);
    REQUIRE(!pthread_create(&thread, 0, take, 0));
    for (uint64_t i = 0; i < batches; i++) {
        uint64_t few = random_below(&random, 3) ? 0 : random_below(&random, BATCH);
        wait_for(&queue[i % DEPTH].full, 0);
        for (unsigned k = 0; k < BATCH; k++) {
            void *object = mc_alloc_owned(SIZE + random_below(&random, 3) * 64, MC_QUANTUM, 0);
            if (few && k >= few) {
                REQUIRE(mc_tag_set(object, SIZE, k));
                given += k;
            }
            queue[i % DEPTH].object[k] = object;
        }
        __atomic_store_n(&queue[i % DEPTH].full, 1, __ATOMIC_RELEASE);
        if (i % 1000 == 0) mc_heap_trim();
    }
    REQUIRE(!pthread_join(thread, 0));
    REQUIRE_EQUAL(taken, given);
    nothing_left();
}

/* A proxy begins to serve in the moment the span gets its first tag: then it does not, whoever is first. */
static unsigned meeting; /* [shared] counts those who came */
static uint64_t meetings;
static void *handed;

/* Both go on at once, and each a little later than the other by chance. */
static void meet(unsigned *before, uint64_t later)
{
    *before += 2;
    __atomic_add_fetch(&meeting, 1, __ATOMIC_ACQ_REL);
    while ((int)(__atomic_load_n(&meeting, __ATOMIC_ACQUIRE) - *before) < 0)
        sched_yield();
    for (volatile uint64_t i = 0; i < later; i++)
        ;
}

static void *begin_to_serve(void *unused)
{
    struct random random = test_random(2);
    unsigned before = 0;
    REQUIRE(mc_thread_attach());
    for (unsigned i = 0; i < 10; i++)
        mc_free(objects[i]);
    mc_cache_flush(mc_self);
    for (uint64_t i = 0; i < meetings; i++) {
        meet(&before, 0);
        void *object = handed;
        const struct mc_span *span = mc_span_of(object);
        meet(&before, random_below(&random, 40));
        mc_free(object);
        meet(&before, 0);
        REQUIRE_EQUAL(cache()->places[mc_proxy_number(span)].stands_for, (uint64_t)span);
        REQUIRE(!proxy_of(objects[0])->limit);
        mc_cache_flush(mc_self);
        meet(&before, 0);
    }
    return unused;
}

static void first_tags(void)
{
    struct random random = test_random(3);
    size_t usable, requested;
    unsigned before = 0;
    pthread_t thread;
    meetings = test_scale(100000);
    fill(SIZE, SPAN / 2);
    struct mc_span *span = mc_span_of(objects[0]);
    REQUIRE(!pthread_create(&thread, 0, begin_to_serve, 0));
    for (uint64_t i = 0; i < meetings; i++) {
        handed = mc_alloc_owned(SIZE, MC_QUANTUM, 0);
        REQUIRE(mc_span_of(handed) == span);
        meet(&before, 0);
        meet(&before, random_below(&random, 40));
        REQUIRE(mc_tag_set(objects[20], SIZE, TAG));
        meet(&before, 0);
        meet(&before, 0);
        REQUIRE_EQUAL(mc_tag_take(objects[20], &usable, &requested), TAG);
        mc_span_clear_flag(span, MC_SPAN_TAGGED);
        mc_span_set_limit(span);
        mc_refill_collect(mc_self);
    }
    REQUIRE(!pthread_join(thread, 0));
}

static const struct test_case cases[] = {
    {"proxy_tags", tags_stop, 0},
    {"proxy_purged", purged_parts_stop, 0},
    {"proxy_no_tag_lost", no_tag_is_lost, 0},
    {"proxy_first_tags", first_tags, 0},
};
TEST_MAIN(cases)
