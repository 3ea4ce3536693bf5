/* SPDX-License-Identifier: MIT */
/* Proxies: when a span gets one, what its list does, and when it has to stop serving. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "cache.h"
#include "class.h"
#include "ended.h"
#include "hooks.h"
#include "limits.h"
#include "own_map.h"
#include "proxy.h"
#include "refill.h"
#include "span.h"
#include "test.h"
#include "thread.h"

enum { SIZE = 64, OTHER = 160, SPAN = MC_SLICE / SIZE, TAG = 7 };
/* The first slot makes the cache, and for those after it there is no proxy yet; it takes them later. */
enum { BEFORE = MC_PROXY_WANTED, FIRST = MC_CACHE_FIRST / SIZE, LATER = MC_CACHE_BYTES / SIZE };

static void *objects[SPAN];
static uint64_t taken; /* sum of the tags that frees took off */

static void note_free(void *object, size_t usable, size_t requested, uint64_t tag)
{
    (void)object;
    (void)usable;
    (void)requested;
    __atomic_add_fetch(&taken, tag, __ATOMIC_RELAXED);
}

static void fill(size_t size, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        REQUIRE((objects[i] = mc_alloc_owned(size, MC_QUANTUM, 0)));
}

static void in_thread(void *(*work)(void *argument))
{
    pthread_t thread;
    REQUIRE(!pthread_create(&thread, 0, work, 0));
    REQUIRE(!pthread_join(thread, 0));
}

static struct mc_cache *cache(void)
{
    return (struct mc_cache *)mc_self->cache;
}

static struct mc_span *proxy_of(const void *object)
{
    return &cache()->proxies[mc_proxy_number(mc_span_of(object))];
}

static uint64_t stands_for(const void *object)
{
    return cache()->places[mc_proxy_number(mc_span_of(object))].stands_for;
}

static uint32_t listed(size_t size)
{
    return mc_cache_count(&cache()->lists[mc_class_for(size)]);
}

static int is_short(void *object)
{
    struct mc_span *found = mc_own_map_find(mc_self, (uint64_t)object);
    return found->state == MC_SPAN_PROXY && (uint64_t)object - found->base < found->limit;
}

static void nothing_left(void)
{
    struct mc_heap_totals totals;
    mc_heap_check();
    mc_heap_trim();
    mc_heap_check();
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used, 0);
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
    REQUIRE(mc_cache_ready(mc_self, mc_class_for(SIZE)));
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
    REQUIRE(!mc_cache_ready(mc_self, mc_class_for(SIZE))); /* asks */
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

static pthread_barrier_t turns;
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
    REQUIRE_EQUAL(proxy_of(objects[0])->slot_size, SIZE);
    for (unsigned i = 0; i < 20; i++) {
        REQUIRE_EQUAL(is_short(objects[i]), i > 0);
        mc_free(objects[i]);
    }
    REQUIRE_EQUAL(proxy_of(objects[0])->slot_size, OTHER);
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
    while (mc_cache_ready(mc_self, mc_class_for(TINY))) {
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

/* -- what stops it --------------------------------------------------------------------------- */

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
        meet(&before, random_below(&random, 40));
        mc_free(object);
        meet(&before, 0);
        REQUIRE_EQUAL(stands_for(objects[0]), (uint64_t)mc_span_of(object));
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
    {"proxy_serves", serves_frees, 0},
    {"proxy_full", full_ones_leave, 0},
    {"proxy_structs_again", structs_used_again, 0},
    {"proxy_places", places_change_hands, 0},
    {"proxy_done", done_ones_leave, 0},
    {"proxy_by_turns", many_by_turns, 0},
    {"proxy_tags", tags_stop, 0},
    {"proxy_purged", purged_parts_stop, 0},
    {"proxy_realloc", reallocs, 0},
    {"proxy_realloc_at_tick", reallocs_at_tick, 0},
    {"proxy_owner", becomes_owner, 0},
    {"proxy_no_tag_lost", no_tag_is_lost, 0},
    {"proxy_first_tags", first_tags, 0},
};
TEST_MAIN(cases)
