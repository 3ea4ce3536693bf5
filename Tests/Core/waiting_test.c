/* SPDX-License-Identifier: MIT */
/* Memory that others freed of a thread that waits. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "cache.h"
#include "heap.h"
#include "span.h"
#include "test.h"
#include "thread.h"
#include "waiting.h"

enum { SIZE = 96, COUNT = 40000, LARGER = 6000, LARGER_COUNT = 300 };
static void *objects[COUNT], *larger[LARGER_COUNT];

static void make(void)
{
    for (unsigned i = 0; i < COUNT; i++)
        memset(objects[i] = mc_alloc(SIZE), 1, SIZE);
    for (unsigned i = 0; i < LARGER_COUNT; i++)
        memset(larger[i] = mc_alloc(LARGER), 1, LARGER);
}

static size_t resident_pages(void)
{
    size_t count = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned char resident = 0;
        if (!mincore((void *)((uintptr_t)objects[i] & -(uintptr_t)4096), 4096, &resident))
            count += resident & 1;
    }
    return count;
}

static void *free_all(void *unused)
{
    for (unsigned i = 0; i < COUNT; i++)
        mc_free(objects[i]);
    for (unsigned i = 0; i < LARGER_COUNT; i++)
        mc_free(larger[i]);
    mc_heap_trim();
    return unused;
}

static void in_another(void *(*function)(void *))
{
    pthread_t thread;
    REQUIRE(!pthread_create(&thread, 0, function, 0));
    pthread_join(thread, 0);
}

static uint64_t spans_gone(void)
{
    uint64_t count = 0;
    const struct mc_span *last = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        const struct mc_span *span = mc_span_of(objects[i]);
        count += span && span != last && span->remote == MC_REMOTE_GONE;
        last = span;
    }
    return count;
}

/* All but what is of the spans that serve; and the owner goes on as with spans of its own that are empty. */
static void whole_spans_go(void)
{
    struct mc_heap_totals totals;
    make();
    size_t before = resident_pages();
    in_another(free_all);
    REQUIRE(spans_gone() > 50);
    REQUIRE(resident_pages() < before / 20);
    mc_heap_totals(&totals);
    REQUIRE(totals.used_slots < 700);
    mc_heap_check();
    for (unsigned round = 0; round < 3; round++) {
        make();
        mc_heap_check();
        for (unsigned i = 0; i < COUNT; i++)
            REQUIRE(((unsigned char *)objects[i])[SIZE - 1] == 1);
        if (round == 1) in_another(free_all);
        if (round != 1) free_all(0);
        mc_heap_check();
    }
}

/* One slot of each span stays: nothing goes, and all is as it was. */
static void others_stay(void)
{
    make();
    const struct mc_span *last = 0;
    static void *kept[COUNT];
    unsigned count = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        if (mc_span_of(objects[i]) == last) continue;
        last = mc_span_of(objects[i]);
        kept[count++] = objects[i];
        objects[i] = mc_alloc(16);
    }
    in_another(free_all);
    for (unsigned i = 0; i < count; i++) {
        REQUIRE(((unsigned char *)kept[i])[SIZE - 1] == 1 &&
                mc_span_of(kept[i])->remote != MC_REMOTE_GONE);
        mc_free(kept[i]);
    }
    mc_heap_check();
}

static int freed; /* [shared] */

static void *free_and_tell(void *unused)
{
    for (unsigned i = 0; i < COUNT; i++)
        mc_free(objects[i]);
    mc_cache_flush(mc_self);
    __atomic_store_n(&freed, 1, __ATOMIC_RELEASE);
    return unused;
}

/* Only of threads that have not looked since the tick before. This one does, as far as anybody can see, however
 * long the frees take. */
static void who_looked_is_left(void)
{
    pthread_t thread;
    make();
    REQUIRE(!pthread_create(&thread, 0, free_and_tell, 0));
    while (!__atomic_load_n(&freed, __ATOMIC_ACQUIRE))
        mc_store(&mc_self->looks, mc_self->looks + 1);
    pthread_join(thread, 0);
    mc_store(&mc_self->looks, mc_self->looks + 1);
    mc_waiting_give_back(0);
    REQUIRE_EQUAL(spans_gone(), 0);
    mc_waiting_give_back(0);
    REQUIRE(spans_gone() > 50);
    mc_heap_check();
}

/* -- an owner that looks while its spans are given back ------------------------------------- */

enum { HANDED = 4096 };
static void *handed[HANDED]; /* [shared] */
static int ended;

static void *free_what_comes(void *unused)
{
    while (!__atomic_load_n(&ended, __ATOMIC_ACQUIRE)) {
        for (unsigned i = 0; i < HANDED; i++) {
            unsigned char *object = __atomic_exchange_n(&handed[i], 0, __ATOMIC_ACQ_REL);
            if (!object) continue;
            REQUIRE(object[0] == object[SIZE - 1]);
            mc_free(object);
        }
        mc_cache_flush(mc_self);
        mc_waiting_give_back(1);
    }
    return unused;
}

static void owners_come_back(void)
{
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++)
        REQUIRE(!pthread_create(&threads[i], 0, free_what_comes, 0));
    for (uint64_t n = 0; n < test_scale(200); n++) {
        for (unsigned i = 0; i < HANDED; i++) {
            unsigned char *object = mc_alloc(SIZE);
            memset(object, (int)(n + i), SIZE);
            object = __atomic_exchange_n(&handed[i], object, __ATOMIC_ACQ_REL);
            if (!object) continue;
            REQUIRE(object[0] == object[SIZE - 1]);
            if (n % 2)
                mc_free(object);
            else
                objects[i] = object;
        }
        for (unsigned i = 0; i < HANDED; i++) {
            if (objects[i]) mc_free(objects[i]);
            objects[i] = 0;
        }
    }
    __atomic_store_n(&ended, 1, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], 0);
    for (unsigned i = 0; i < HANDED; i++)
        if (handed[i]) mc_free(handed[i]);
    mc_heap_check();
}

static const struct test_case cases[] = {
    {"whole_spans_go", whole_spans_go, 0},
    {"others_stay", others_stay, 0},
    {"who_looked_is_left", who_looked_is_left, 0},
    {"owners_come_back", owners_come_back, 240},
};
TEST_MAIN(cases)
