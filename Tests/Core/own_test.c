/* SPDX-License-Identifier: MIT */
/* Own memory of the tracing: what is mapped is listed, and the lists say neither more nor less. */
#include "own.h"

#include <pthread.h>
#include <string.h>

#include "bits.h"
#include "ranges.h"
#include "region.h"
#include "test.h"

static uint64_t times_listed(const void *start)
{
    uint64_t found = 0;
    for (const struct mc_meta_list *list = (const struct mc_meta_list *)mc_own_lists; list;
         list = (const struct mc_meta_list *)list->next) {
        for (unsigned i = 0; i < MC_META_LIST_MAX; i++)
            found += list->ranges[i].start == (uint64_t)start && list->ranges[i].size;
    }
    return found;
}

/* More than one list holds. A place that was given back may be got again: it is listed once. */
static void listed(void)
{
    enum { COUNT = 4 * MC_META_LIST_MAX, SIZE = 3 * MC_PAGE };
    void *places[COUNT];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            places[i] = mc_own_map(SIZE);
            REQUIRE(places[i] && *(char *)places[i] == 0);
            memset(places[i], 1, SIZE);
        }
        for (unsigned i = 0; i < COUNT; i++)
            REQUIRE_EQUAL(times_listed(places[i]), 1);
        REQUIRE_EQUAL(mc_ranges_bytes(&mc_own_lists), mc_own_region.own_bytes);
        REQUIRE(mc_own_region.own_bytes > COUNT * SIZE);
        for (unsigned i = 0; i < COUNT; i++) {
            mc_own_release(places[i], SIZE);
            REQUIRE_EQUAL(times_listed(places[i]), 0);
        }
        REQUIRE_EQUAL(mc_ranges_bytes(&mc_own_lists), mc_own_region.own_bytes);
        REQUIRE(mc_own_region.own_bytes < COUNT * SIZE); /* the lists */
    }
}

/* What was purged is nobody's memory, and may be touched still. */
static void purged(void)
{
    enum { SIZE = 5 * MC_PAGE };
    mc_own_release(mc_own_map(MC_PAGE), MC_PAGE); /* a list is there */
    uint64_t before = mc_own_region.own_bytes;
    char *place = mc_own_map(SIZE);
    REQUIRE(place);
    memset(place, 1, SIZE);
    mc_own_purge(place, SIZE);
    REQUIRE(times_listed(place) == 0 && mc_own_region.own_bytes == before);
    REQUIRE_EQUAL(mc_ranges_bytes(&mc_own_lists), before);
    REQUIRE(!place[0] && !place[SIZE - 1]);
    place[SIZE - 1] = 1;
}

/* What is a trail's is among the rest, and told beside it. */
static void trails(void)
{
    uint64_t before = mc_own_region.trail_bytes;
    void *other = mc_own_map(MC_PAGE), *trail = mc_own_map_trail(3 * MC_PAGE);
    REQUIRE(other && trail && times_listed(trail) == 1);
    REQUIRE_EQUAL(mc_own_region.trail_bytes - before, 3 * MC_PAGE);
    REQUIRE_EQUAL(mc_ranges_bytes(&mc_own_lists), mc_own_region.own_bytes);
    mc_own_release_trail(trail, 3 * MC_PAGE);
    REQUIRE(times_listed(trail) == 0 && mc_own_region.trail_bytes == before);
    REQUIRE_EQUAL(mc_ranges_bytes(&mc_own_lists), mc_own_region.own_bytes);
    mc_own_release(other, MC_PAGE);
}

static void *map_and_release(void *seed)
{
    struct random random = test_random((uint64_t)seed);
    void *kept[8] = {0};
    for (uint64_t i = 0; i < test_scale(4000); i++) {
        unsigned place = (unsigned)random_below(&random, 8);
        size_t size = (place + 1) * MC_PAGE;
        if (kept[place]) mc_own_release(kept[place], size);
        kept[place] = kept[place] ? 0 : mc_own_map(size);
    }
    return 0;
}

static void threads(void)
{
    enum { THREADS = 4 };
    pthread_t others[THREADS];
    for (uint64_t i = 0; i < THREADS; i++)
        REQUIRE(!pthread_create(&others[i], 0, map_and_release, (void *)(500 + i)));
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(others[i], 0);
    REQUIRE_EQUAL(mc_ranges_bytes(&mc_own_lists), mc_own_region.own_bytes);
}

static const struct test_case cases[] = {{"own_listed", listed, 0},
                                         {"own_purged", purged, 0},
                                         {"own_trails", trails, 0},
                                         {"own_threads", threads, 0}};
TEST_MAIN(cases)
