/* SPDX-License-Identifier: MIT */
/* Proxies: when a span gets one, what its list does, and where its slots go. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "class.h"
#include "ended.h"
#include "proxies.h"
#include "span.h"

/* The first slot makes the cache, and for those after it there is no proxy yet; it takes them later. */
enum {
    OTHER = 160,
    BEFORE = MC_PROXY_WANTED,
    FIRST = MC_CACHE_FIRST / SIZE,
    LATER = MC_CACHE_BYTES / SIZE
};

static void in_thread(void *(*work)(void *argument))
{
    pthread_t thread;
    REQUIRE(!pthread_create(&thread, 0, work, 0));
    REQUIRE(!pthread_join(thread, 0));
}

static uint64_t stands_for(const void *object)
{
    return cache()->places[mc_proxy_number(mc_span_of(object))].stands_for;
}

static uint32_t listed(size_t size)
{
    return mc_cache_count(&cache()->lists[mc_class_for(size)]);
}

/* -- what it has ----------------------------------------------------------------------------- */

static void *use(void *unused)
{
    struct mc_heap_totals totals;
    const struct mc_span *span = mc_span_of(objects[0]);
    REQUIRE(mc_thread_attach());
    for (unsigned i = 0; i < BEFORE + 10; i++) {
        REQUIRE_EQUAL(is_short(objects[i]), i > BEFORE);
        mc_free(objects[i]);
        REQUIRE_EQUAL(listed(SIZE), i < BEFORE ? i + 1 : 1);
        REQUIRE_EQUAL(mc_proxy_count(proxy_of(objects[0])), i < BEFORE ? 0 : i);
    }
    REQUIRE(mc_span_has_free(span, objects[BEFORE + 5]) && mc_span_has_free(span, objects[0]));
    mc_heap_check();
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used, (SPAN - BEFORE - 10ull) * SIZE);
    REQUIRE(mc_cache_ready(mc_self, mc_class_for(SIZE), 0));
    REQUIRE_EQUAL(listed(SIZE), BEFORE + 9);
    REQUIRE(is_short(objects[BEFORE + 10])); /* by the slot that stays */
    mc_cache_flush(mc_self);
    REQUIRE(!is_short(objects[BEFORE + 10]) && !proxy_of(objects[0])->free);
    REQUIRE_EQUAL(mc_remote_count(span->remote), BEFORE + 10);
    mc_free(objects[BEFORE + 10]); /* its place is still the span's */
    REQUIRE(is_short(objects[BEFORE + 11]));
    for (unsigned i = BEFORE + 11; i < SPAN; i++)
        mc_free(objects[i]);
    mc_heap_check();
    return unused;
}

static void serves_frees(void)
{
    fill(SIZE, SPAN);
    in_thread(use);
    nothing_left();
}

/* Of a class that the thread did not ask for it goes to the owner; else to the list, while that has room. */
static void *fill_up(void *unused)
{
    const struct mc_span *span = mc_span_of(objects[0]);
    unsigned next = 0;
    REQUIRE(mc_thread_attach());
    while (next < FIRST)
        mc_free(objects[next++]);
    REQUIRE_EQUAL(mc_proxy_count(proxy_of(objects[0])), FIRST - 1);
    REQUIRE_EQUAL(span->remote, 0);
    mc_free(objects[next++]);
    REQUIRE_EQUAL(mc_proxy_count(proxy_of(objects[0])), 1);
    REQUIRE_EQUAL(mc_remote_count(span->remote), FIRST - 1);
    REQUIRE_EQUAL(listed(SIZE), 1);
    REQUIRE(!mc_cache_ready(mc_self, mc_class_for(SIZE), 0)); /* asks */
    for (unsigned i = 0; i < FIRST - 1; i++)
        mc_free(objects[next++]);
    REQUIRE_EQUAL(listed(SIZE), FIRST);
    REQUIRE_EQUAL(mc_remote_count(span->remote), FIRST - 1);
    mc_heap_check();
    return unused;
}

static void full_ones_leave(void)
{
    _Static_assert(BEFORE + 2 * FIRST <= SPAN && FIRST <= LATER / 2, "");
    fill(SIZE, SPAN);
    in_thread(fill_up);
}

/* Where the list is homing, a proxy has less, and none of it goes on the list. */
static void *fill_homing(void *unused)
{
    enum { PART = LATER / MC_PROXY_HOMING };
    const struct mc_span *span = mc_span_of(objects[0]);
    unsigned next = 0;
    REQUIRE(mc_thread_attach());
    mc_free(objects[next++]);
    REQUIRE(!mc_cache_ready(mc_self, mc_class_for(SIZE), 0)); /* asks */
    cache()->lists[mc_class_for(SIZE)].homing = 1;
    while (next < PART)
        mc_free(objects[next++]);
    REQUIRE_EQUAL(mc_proxy_count(proxy_of(objects[0])), PART - 1);
    REQUIRE_EQUAL(span->remote, 0);
    mc_free(objects[next++]);
    REQUIRE_EQUAL(mc_remote_count(span->remote), PART - 1);
    REQUIRE_EQUAL(listed(SIZE), 1);
    mc_heap_check();
    return unused;
}

static void full_ones_go_home(void)
{
    fill(SIZE, SPAN);
    in_thread(fill_homing);
}

static uint64_t struct_before;

/* The struct of a span that is gone serves another, of another size: so does the proxy. */

static void *free_two_kinds(void *unused)
{
    REQUIRE(mc_thread_attach());
    for (unsigned i = 0; i < SPAN; i++)
        mc_free(objects[i]);
    REQUIRE(is_short(objects[SPAN - 1]));
    mc_heap_trim();
    pthread_barrier_wait(&turns);
    pthread_barrier_wait(&turns);
    REQUIRE_EQUAL(stands_for(objects[0]), struct_before);
    REQUIRE_EQUAL(mc_slot_size(proxy_of(objects[0])), SIZE);
    for (unsigned i = 0; i < 20; i++) {
        REQUIRE_EQUAL(is_short(objects[i]), i > 0);
        mc_free(objects[i]);
    }
    REQUIRE_EQUAL(mc_slot_size(proxy_of(objects[0])), OTHER);
    mc_heap_check();
    return unused;
}

static void structs_used_again(void)
{
    pthread_t thread;
    REQUIRE(!pthread_barrier_init(&turns, 0, 2));
    fill(SIZE, SPAN);
    struct_before = (uint64_t)mc_span_of(objects[0]);
    REQUIRE(!pthread_create(&thread, 0, free_two_kinds, 0));
    pthread_barrier_wait(&turns);
    mc_heap_trim();
    REQUIRE(!mc_span_of(objects[0]));
    fill(OTHER, 20);
    REQUIRE_EQUAL((uint64_t)mc_span_of(objects[0]), struct_before);
    pthread_barrier_wait(&turns);
    REQUIRE(!pthread_join(thread, 0));
    nothing_left();
}

/* Two spans of one place: it goes to the other when several slots of that were freed. */
enum { LARGER = 512, A_SLICE = MC_SLICE / LARGER, SLICES = 16 * MC_PROXIES };
static void *larger[SLICES][A_SLICE];

static void *free_by_turns(void *unused)
{
    unsigned other = 1;
    REQUIRE(mc_thread_attach());
    for (unsigned i = 0; i < BEFORE + 2; i++)
        mc_free(larger[0][i]);
    const struct mc_span *span = mc_span_of(larger[0][0]), *proxy = proxy_of(larger[0][0]);
    while (mc_span_of(larger[other][0]) == span || proxy_of(larger[other][0]) != proxy)
        REQUIRE(++other < SLICES);
    REQUIRE_EQUAL(mc_proxy_count(proxy), BEFORE + 1);
    for (unsigned i = 0; i < MC_PROXY_WANTED; i++) {
        mc_heap_check();
        REQUIRE(is_short(larger[0][A_SLICE - 1]) && !is_short(larger[other][0]));
        mc_free(larger[other][i]);
    }
    REQUIRE_EQUAL(mc_proxy_count(proxy), MC_PROXY_WANTED);
    REQUIRE_EQUAL(mc_remote_count(span->remote), BEFORE + 1);
    REQUIRE_EQUAL(listed(LARGER), 1);
    REQUIRE(!is_short(larger[0][A_SLICE - 1]) && is_short(larger[other][A_SLICE - 1]));
    mc_heap_check();
    for (unsigned i = 0; i < SLICES; i++)
        for (unsigned k = !i ? BEFORE + 2 : i == other ? MC_PROXY_WANTED : 0; k < A_SLICE; k++)
            mc_free(larger[i][k]);
    mc_heap_check();
    return unused;
}

static void places_change_hands(void)
{
    for (unsigned i = 0; i < SLICES; i++)
        for (unsigned k = 0; k < A_SLICE; k++)
            REQUIRE((larger[i][k] = mc_alloc_owned(LARGER, MC_QUANTUM, 0)));
    for (unsigned i = 0; i < SLICES; i++)
        REQUIRE(mc_span_of(larger[i][0]) == mc_span_of(larger[i][A_SLICE - 1]));
    in_thread(free_by_turns);
    nothing_left();
}

/* Who only frees and goes on with other spans withholds none of those before. */
static void *free_in_order(void *unused)
{
    REQUIRE(mc_thread_attach());
    for (unsigned i = 0; i < SLICES; i++)
        for (unsigned k = 0; k < A_SLICE; k++)
            mc_free(larger[i][k]);
    mc_heap_check();
    pthread_barrier_wait(&turns);
    pthread_barrier_wait(&turns);
    return unused;
}

static void done_ones_leave(void)
{
    pthread_t thread;
    const struct mc_span *last = 0;
    unsigned count = 0;
    REQUIRE(!pthread_barrier_init(&turns, 0, 2));
    for (unsigned i = 0; i < SLICES; i++)
        for (unsigned k = 0; k < A_SLICE; k++)
            REQUIRE((larger[i][k] = mc_alloc_owned(LARGER, MC_QUANTUM, 0)));
    REQUIRE(!pthread_create(&thread, 0, free_in_order, 0));
    pthread_barrier_wait(&turns);
    mc_heap_trim();
    for (unsigned i = 0; i < SLICES; i++) {
        const struct mc_span *span = mc_span_of(larger[i][0]);
        count += span && span != last;
        if (span) last = span;
    }
    REQUIRE(count <= 2); /* with the first slot of all, and the last */
    pthread_barrier_wait(&turns);
    REQUIRE(!pthread_join(thread, 0));
    nothing_left();
}

/* As many spans as have places, by turns: all together they have more than a list can count. */
enum { TINY = MC_QUANTUM, MANY = 32 * MC_PROXIES, TURNS = MC_CACHE_SLOTS - 2 };
static void *tiny[MANY][MC_SLICE / TINY];

static void *free_by_columns(void *unused)
{
    unsigned rows[MC_PROXIES] = {0}, count = 0;
    REQUIRE(mc_thread_attach());
    for (unsigned i = 1; i < MANY; i++) {
        unsigned *row = &rows[mc_proxy_number(mc_span_of(tiny[i][0]))];
        if (*row) continue;
        *row = i;
        count++;
    }
    REQUIRE_EQUAL(count, MC_PROXIES);
    for (unsigned k = 0; k < TURNS; k++)
        for (unsigned i = 0; i < MC_PROXIES; i++)
            mc_free(tiny[rows[i]][k]);
    mc_heap_check();
    for (unsigned i = 0; i < MC_PROXIES; i++)
        REQUIRE(mc_proxy_count(proxy_of(tiny[rows[i]][0])) > MC_CACHE_SLOTS / 2);
    while (mc_cache_ready(mc_self, mc_class_for(TINY), 0)) {
        REQUIRE(listed(TINY) >= MC_CACHE_SERVES && listed(TINY) <= 2 * MC_CACHE_SLOTS);
        mc_heap_check();
        for (unsigned i = listed(TINY) + 1; i; i--)
            REQUIRE(mc_alloc(TINY));
        mc_heap_check();
    }
    return unused;
}

static void many_by_turns(void)
{
    for (unsigned i = 0; i < MANY; i++)
        for (unsigned k = 0; k < MC_SLICE / TINY; k++)
            REQUIRE((tiny[i][k] = mc_alloc_owned(TINY, MC_QUANTUM, 0)));
    in_thread(free_by_columns);
    mc_heap_check();
}

/* -- besides ---------------------------------------------------------------------------------- */

static void *change_size(void *unused)
{
    REQUIRE(mc_thread_attach());
    for (unsigned i = 0; i < 10; i++)
        mc_free(objects[i]);
    uint32_t before = mc_proxy_count(proxy_of(objects[0]));
    REQUIRE(mc_realloc_short(objects[10], SIZE - 1) == objects[10]);
    REQUIRE_EQUAL(mc_proxy_count(proxy_of(objects[0])), before);
    memset(objects[10], 5, SIZE);
    char *moved = mc_realloc_short(objects[10], 2 * SIZE);
    REQUIRE(moved && moved != objects[10] && moved[SIZE - 1] == 5);
    REQUIRE_EQUAL(mc_proxy_count(proxy_of(objects[0])), before + 1);
    mc_free(moved);
    for (unsigned i = 11; i < SPAN; i++) {
        char *other = mc_realloc_short(objects[i], 2 * SIZE);
        REQUIRE(other);
        mc_free(other);
    }
    mc_heap_check();
    return unused;
}

static void reallocs(void)
{
    fill(SIZE, SPAN);
    in_thread(change_size);
    nothing_left();
}

/* The allocation of the copy may be a tick, and then the proxy has nothing when the old slot is freed. */
static void *change_size_at_tick(void *unused)
{
    struct timespec pause = {0, 2 * MC_TICK_MS * 1000000L};
    REQUIRE(mc_thread_attach());
    for (unsigned i = 0; i < 10; i++)
        mc_free(objects[i]);
    REQUIRE(is_short(objects[10]));
    nanosleep(&pause, 0);
    mc_self->until_look = 1;
    REQUIRE(mc_realloc_short(objects[10], 2 * SIZE));
    REQUIRE_EQUAL(listed(SIZE), 0);
    mc_heap_check();
    for (unsigned i = 11; i < 30; i++)
        mc_free(objects[i]);
    mc_heap_check();
    mc_heap_trim();
    mc_heap_check();
    return unused;
}

static void reallocs_at_tick(void)
{
    mc_free(mc_alloc(SIZE));
    fill(SIZE, SPAN);
    in_thread(change_size_at_tick);
    mc_heap_check();
}

static void *make_and_end(void *unused)
{
    fill(SIZE, SPAN);
    return unused;
}

/* A thread that has a proxy for the span of one that ended comes to own the span itself. */
static void becomes_owner(void)
{
    REQUIRE(mc_thread_attach());
    in_thread(make_and_end);
    for (unsigned i = 0; i < 20; i++)
        mc_free(objects[i]);
    REQUIRE(is_short(objects[20]));
    mc_threads_reap();
    struct mc_span *span = mc_span_of(objects[0]);
    mc_cache_flush_class(mc_self, mc_class_for(SIZE));
    for (unsigned i = 20; i < 40; i++)
        mc_free(objects[i]);
    while (span->owner != (uint64_t)mc_self)
        REQUIRE(mc_alloc_owned(SIZE, MC_QUANTUM, 0) && mc_span_of(objects[40]) == span);
    mc_heap_check();
    for (unsigned i = 40; i < SPAN; i++)
        mc_free(objects[i]);
    mc_heap_check();
    mc_heap_trim();
    mc_heap_check();
}

static const struct test_case cases[] = {
    {"proxy_serves", serves_frees, 0},
    {"proxy_full", full_ones_leave, 0},
    {"proxy_homing", full_ones_go_home, 0},
    {"proxy_structs_again", structs_used_again, 0},
    {"proxy_places", places_change_hands, 0},
    {"proxy_done", done_ones_leave, 0},
    {"proxy_by_turns", many_by_turns, 0},
    {"proxy_realloc", reallocs, 0},
    {"proxy_realloc_at_tick", reallocs_at_tick, 0},
    {"proxy_owner", becomes_owner, 0},
};
TEST_MAIN(cases)
