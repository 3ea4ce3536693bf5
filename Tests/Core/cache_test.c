/* SPDX-License-Identifier: MIT */
/* Slots that another thread than their owner freed: when they are cached, when they go back, and how the
 * owner takes them. */
#include <pthread.h>

#include "cache.h"
#include "class.h"
#include "heap.h"
#include "limits.h"
#include "refill.h"
#include "span.h"
#include "test.h"
#include "thread.h"

/* A slot that its proxy keeps when the others leave. */
enum { STAYS = 1 };
enum { SIZE = 64, A_PAGE = MC_PAGE / SIZE, SPAN = MC_SLICE / SIZE };

/* As many slots of spans without a proxy as make a list go home, each of another span. */
enum { STRAYS = MC_CACHE_BYTES / SIZE / MC_CACHE_STRAYS + 1 };

static void *objects[(STRAYS + 1) * SPAN];

static void fill(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        REQUIRE((objects[i] = mc_alloc(SIZE)));
}

static void in_thread(void *(*work)(void *argument), void *argument)
{
    pthread_t thread;
    REQUIRE(!pthread_create(&thread, 0, work, argument));
    REQUIRE(!pthread_join(thread, 0));
}

static struct mc_cache *cache(void)
{
    return (struct mc_cache *)mc_self->cache;
}

static uint32_t listed(void)
{
    return cache() ? mc_cache_count(&cache()->lists[mc_class_for(SIZE)]) : 0;
}

/* On the list and in the proxy of the span that the objects lie in. */
static uint32_t cached(void)
{
    const struct mc_span *span = mc_span_of(objects[0]);
    return cache() ? listed() + mc_proxy_count(&cache()->proxies[mc_proxy_number(span)]) : 0;
}

/* -- threads that only free ----------------------------------------------------------------- */

static void *free_many(void *unused)
{
    for (unsigned i = 0; i < MC_CACHE_ATTACH - 1; i++)
        mc_free(objects[i]);
    REQUIRE_EQUAL(mc_thread_number(), 0);
    REQUIRE_EQUAL(mc_remote_count(mc_span_of(objects[0])->remote), MC_CACHE_ATTACH - 1);
    for (unsigned i = MC_CACHE_ATTACH - 1; i < A_PAGE; i++)
        mc_free(objects[i]);
    REQUIRE(mc_thread_number() != 0);
    REQUIRE_EQUAL(cached(), A_PAGE - (MC_CACHE_ATTACH - 1));
    REQUIRE_EQUAL(mc_remote_count(mc_span_of(objects[0])->remote), MC_CACHE_ATTACH - 1);
    return unused;
}

static void only_frees_caches(void)
{
    struct mc_heap_totals totals;
    fill(A_PAGE);
    in_thread(free_many, 0);
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used, 0);
    mc_heap_check();
    mc_heap_trim(); /* the thread has ended: what it cached is handed back, and taken */
    REQUIRE_EQUAL(mc_span_of(objects[0]), 0);
    mc_heap_check();
}

/* -- what serves, and what goes back --------------------------------------------------------- */

static void *serve(void *unused)
{
    unsigned index = mc_class_for(SIZE), next = 0;
    REQUIRE(mc_thread_attach());
    for (unsigned time = 1; time <= 2 * MC_CACHE_RETURNS; time++) {
        while (cached() < MC_CACHE_SERVES + STAYS)
            mc_free(objects[next++]);
        struct mc_span *list = mc_cache_ready(mc_self, index, 0);
        REQUIRE_EQUAL(!list, time % MC_CACHE_RETURNS == 0);
        REQUIRE(list ? listed() >= MC_CACHE_SERVES : !listed());
        REQUIRE(cached() <= listed() + STAYS);
    }
    REQUIRE_EQUAL(mc_remote_count(mc_span_of(objects[0])->remote), next - cached());
    return unused;
}

static void returned_in_turns(void)
{
    fill(SPAN);
    in_thread(serve, 0);
    mc_heap_check();
}

/* Of a class that it never asked for a thread withholds little, and then nothing; once it has asked, more. */
static void *hoard(void *unused)
{
    enum { FEW = MC_CACHE_FIRST / SIZE + 1, MANY = FEW + MC_CACHE_FIRST / SIZE };
    unsigned index = mc_class_for(SIZE), left = 1 + STAYS;
    REQUIRE(mc_thread_attach());
    for (unsigned i = 0; i < FEW; i++) {
        REQUIRE_EQUAL(cached(), i);
        mc_free(objects[i]);
    }
    REQUIRE_EQUAL(cached(), left);
    REQUIRE(!mc_cache_ready(mc_self, index, 0));
    for (unsigned i = FEW; i < MANY; i++)
        mc_free(objects[i]);
    REQUIRE_EQUAL(cached(), MANY - FEW + left);
    return unused;
}

static void widened(void)
{
    _Static_assert(2 * MC_CACHE_FIRST <= MC_CACHE_BYTES && MC_CACHE_FIRST / SIZE < SPAN / 3, "");
    fill(SPAN);
    in_thread(hoard, 0);
    mc_heap_check();
}

/* Objects from this one on, until there are enough to serve and one that stays. */
static void free_enough(unsigned next)
{
    while (cached() < MC_CACHE_SERVES + STAYS)
        mc_free(objects[next++]);
}

/* 1 if what is cached goes home; 0 if it serves. */
static int goes(int has_own)
{
    struct mc_span *list = mc_cache_ready(mc_self, mc_class_for(SIZE), has_own);
    REQUIRE(list ? listed() >= MC_CACHE_SERVES : !listed() && cached() <= STAYS);
    mc_cache_check(mc_self);
    return !list;
}

/* Frees an object of each of several spans, in which it is the one of this number. */
static void free_strays(unsigned from, unsigned number)
{
    for (unsigned i = from; i < STRAYS; i++)
        mc_free(objects[i * SPAN + number]);
}

/* A list that sees slots of many spans goes home for a while. */
static void *stray(void *unused)
{
    unsigned index = mc_class_for(SIZE);
    REQUIRE(mc_thread_attach());
    mc_free(objects[0]);
    REQUIRE(!mc_cache_ready(mc_self, index, 1)); /* asks */
    free_strays(1, 0);
    REQUIRE(mc_cache_ready(mc_self, index, 1)); /* one too few */
    mc_cache_flush(mc_self);
    free_strays(0, 1);
    REQUIRE_EQUAL(listed(), STRAYS);
    REQUIRE(!mc_cache_ready(mc_self, index, 1) && !listed());
    for (unsigned time = 1; time < MC_CACHE_HOMING - 1; time++)
        REQUIRE(!mc_cache_ready(mc_self, index, 1));
    free_enough(2);
    REQUIRE(goes(1));
    free_enough(20);
    REQUIRE(!goes(1));
    return unused;
}

/* Where it would have to touch fresh memory, it serves while it is homing, too. */
static void *stray_without(void *unused)
{
    REQUIRE(mc_thread_attach());
    mc_free(objects[0]);
    REQUIRE(!mc_cache_ready(mc_self, mc_class_for(SIZE), 0)); /* asks */
    free_strays(0, 1);
    REQUIRE(!goes(0));
    free_enough(2);
    REQUIRE(!goes(0));
    free_enough(20);
    REQUIRE(goes(1));
    return unused;
}

static void homing(void *(*work)(void *argument))
{
    _Static_assert(STRAYS > MC_CACHE_SERVES && MC_CACHE_RETURNS > 4, "");
    fill((STRAYS + 1) * SPAN);
    for (unsigned i = 0; i < STRAYS; i++)
        REQUIRE(mc_span_of(objects[i * SPAN]) != mc_span_of(objects[(i + 1) * SPAN]));
    in_thread(work, 0);
    mc_heap_check();
}

static void homing_a_while(void)
{
    homing(stray);
}

static void homing_without_own(void)
{
    homing(stray_without);
}

/* -- the owner takes them -------------------------------------------------------------------- */

static unsigned first, last;

/* Each by itself: the thread is gone before it has a cache. */
static void *free_some(void *unused)
{
    for (unsigned i = first; i < last; i++)
        mc_free(objects[i]);
    return unused;
}

static uint32_t length(uint64_t list)
{
    uint32_t count = 0;
    for (; list; list = (uint64_t)((struct mc_slot *)list)->next)
        count++;
    return count;
}

static void collected(struct mc_span *span, uint32_t free_before, uint32_t count)
{
    REQUIRE_EQUAL(length(span->free), free_before);
    REQUIRE_EQUAL(mc_remote_count(span->remote), count);
    REQUIRE_EQUAL(length(mc_remote_slot(span->remote)), count);
    mc_refill_collect(mc_self);
    REQUIRE_EQUAL(span->remote, 0);
    REQUIRE_EQUAL(length(span->free), free_before + count);
    mc_heap_check();
}

/* Before what the owner has at hand, by the end of the list that the first of them told of. */
static void joined(void)
{
    struct mc_span *span;
    fill(SPAN);
    span = mc_span_of(objects[0]);
    REQUIRE_EQUAL(span->free, 0);
    first = 0, last = 5;
    in_thread(free_some, 0);
    first = 5, last = 7;
    in_thread(free_some, 0);
    collected(span, 0, 7);
    first = SPAN - 1, last = SPAN;
    in_thread(free_some, 0);
    first = 10, last = 20;
    in_thread(free_some, 0);
    collected(span, 7, 11);
    REQUIRE_EQUAL(span->used, SPAN - 18 + !!(span->flags & MC_SPAN_CURRENT));
}

static const struct test_case cases[] = {
    {"cache_only_frees", only_frees_caches, 0},
    {"cache_returns", returned_in_turns, 0},
    {"cache_widened", widened, 0},
    {"cache_homing", homing_a_while, 0},
    {"cache_homing_without", homing_without_own, 0},
    {"remotes_joined", joined, 0},
};
TEST_MAIN(cases)
