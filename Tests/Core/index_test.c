/* SPDX-License-Identifier: MIT */
/* The index of what the region keeps: it grows, in any number of threads, and does without memory. */
#include "index.h"

#include <pthread.h>

#include "numbered.h"
#include "os_faulty.h"

enum { KEYS = 30000, MANY_KEYS = 1000000, KEY_IDS = MANY_KEYS + 1 };
static uint64_t keys_of[KEY_IDS]; /* by id */
static uint64_t next_id = 1;

static int key_matches(uint32_t id, const void *key)
{
    REQUIRE(id < KEY_IDS);
    return mc_load_acquire(&keys_of[id]) == *(const uint64_t *)key;
}

/* The bits that choose the place in a table may be poor: then keys get in each other's way. */
static uint64_t poor_bits = 15ull << 60;

static uint64_t hash_of_key(uint64_t key)
{
    return (mc_hash_mix(key, 99) & ~poor_bits) | 1ull << 30; /* none is 0 */
}

static uint64_t hash_of_id(uint32_t id)
{
    uint64_t key = mc_load_acquire(&keys_of[id]);
    return key ? hash_of_key(key) : 0;
}

static struct mc_index_tables tables;
static const struct mc_index keys_index = {.records = {21, &next_id, 0, hash_of_id},
                                           .tables = &tables};

static uint32_t find_key(uint64_t key)
{
    uint32_t id = mc_index_find(&keys_index, hash_of_key(key), key_matches, &key);
    if (id) REQUIRE_EQUAL(keys_of[id], key);
    return id;
}

static uint32_t add_key(uint64_t key)
{
    uint32_t id = (uint32_t)mc_add(&next_id, 1);
    REQUIRE(id < KEY_IDS);
    mc_store_release(&keys_of[id], key);
    mc_index_add(&keys_index, hash_of_key(key), id);
    return id;
}

static uint32_t id_of_key(uint64_t key)
{
    uint32_t id = find_key(key);
    return id ? id : add_key(key);
}

static void require_all_stay(uint64_t count)
{
    for (uint64_t key = 1; key <= count; key++) {
        uint32_t id = id_of_key(key);
        REQUIRE_EQUAL(id_of_key(key), id);
    }
}

/* Tables that are outgrown are emptied meanwhile, and nothing gets lost on the way. */
static void index_grows(void)
{
    uint64_t least = mc_own_region.own_bytes;
    poor_bits = 0;
    for (uint64_t key = 1; key <= MANY_KEYS; key++) {
        REQUIRE_EQUAL(id_of_key(key), key);
        REQUIRE(tables.oldest <= tables.newest && tables.newest - tables.oldest <= 1);
        REQUIRE_EQUAL(id_of_key(1 + key / 2), 1 + key / 2);
    }
    for (uint64_t key = 1; key <= MANY_KEYS; key++)
        REQUIRE_EQUAL(id_of_key(key), key);
    /* A table no more than 13/16 full, of which the one before is gone. */
    REQUIRE_EQUAL(tables.newest, 21); /* of 3 * 2^19 words */
    REQUIRE_EQUAL(tables.oldest, 21);
    REQUIRE(mc_own_region.own_bytes - least <= (6ull << 20) + (1 << 20));
}

static void *look_up(void *argument)
{
    struct random random = test_random((uint64_t)argument);
    for (uint64_t i = 0; i < test_scale(400000); i++)
        id_of_key(1 + random_below(&random, KEYS));
    return 0;
}

static void look_up_together(void)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    for (uint64_t i = 0; i < THREADS; i++)
        REQUIRE(!pthread_create(&threads[i], 0, look_up, (void *)i));
    for (unsigned i = 0; i < THREADS; i++)
        REQUIRE(!pthread_join(threads[i], 0));
}

static void index_threads(void)
{
    look_up_together();
    require_all_stay(KEYS);
    /* Two threads may both have added a key; that is rare. */
    REQUIRE(next_id - 1 >= KEYS && next_id - 1 < KEYS + KEYS / 10);
}

/* -- without memory ------------------------------------------------------------------------ */

/* From that call on, so many times. */
static void fail_to_map(uint64_t at, uint64_t count)
{
    os_faults = (struct os_faults){
        .kinds = OS_MAP, .fail_at = at, .fail_count = count, .bytes_limit = UINT64_MAX};
}

static void have_memory(void)
{
    REQUIRE(os_faults.calls > os_faults.fail_at); /* somebody asked in vain */
    os_faults.kinds = 0;
}

/* Not even for the first table: nothing is found, and nothing else breaks. */
static void without_any(void)
{
    fail_to_map(0, UINT64_MAX);
    for (uint64_t i = 0; i < 100; i++) {
        REQUIRE(!find_key(7));
        REQUIRE_EQUAL(id_of_key(7), i + 1);
    }
    have_memory();
    REQUIRE_EQUAL(id_of_key(7), 101);
    REQUIRE_EQUAL(id_of_key(7), 101);
    require_all_stay(KEYS);
}

/* For no larger table: the newest is filled, but so that searches end; what it has no room for is made
 * anew each time, under an id of its own, and what it has stays. With memory it goes on as ever. */
static void without_larger(void)
{
    enum { ENOUGH = 6000, SIZE = 1 << 13, ANEW = 1000 };
    static uint8_t known[SIZE + 1];
    uint64_t key = 0, count = 0;
    poor_bits = 0;
    while (key < ENOUGH)
        id_of_key(++key);
    uint64_t newest = tables.newest;
    REQUIRE(newest == tables.oldest && mc_index_has_room(&keys_index));
    fail_to_map(0, UINT64_MAX);
    while (key < SIZE)
        id_of_key(++key);
    REQUIRE(tables.newest == newest && !mc_index_has_room(&keys_index));
    REQUIRE(tables.counts[newest] > SIZE / 16 * 13 && tables.counts[newest] < SIZE);
    for (uint64_t each = 1; each <= SIZE; each++)
        count += known[each] = find_key(each) == each;
    REQUIRE_EQUAL(count, tables.counts[newest]);
    uint64_t before = next_id;
    for (unsigned i = 0; i < ANEW; i++)
        REQUIRE(!find_key(SIZE + 1) && add_key(SIZE + 1) == before + i);
    have_memory();
    REQUIRE(mc_index_has_room(&keys_index));
    require_all_stay(SIZE + 1);
    REQUIRE(tables.newest > newest);
    for (uint64_t each = 1; each <= SIZE; each++) /* what was known was not made anew */
        REQUIRE(!known[each] || find_key(each) == each);
}

/* While threads look for larger tables there is none for some time, more than once. */
static void threads_without_memory(void)
{
    fail_to_map(2, 500);
    look_up_together();
    have_memory();
    require_all_stay(KEYS);
    uint64_t ids = next_id;
    require_all_stay(KEYS);
    REQUIRE_EQUAL(next_id, ids);
}

/* Stacks that the index has no room for are not recorded, rather than each time anew; their objects are
 * counted where those are that find the table full. With memory they have rows again. */
static void stacks_without_memory(void)
{
    enum { ROUNDS = 20000, KNOWN = 700, STACKS = 1000 };
    trace(64 << 20);
    for (uint64_t i = 0; i < KNOWN; i++)
        count_in(1, intern(i), 30, 32);
    fail_to_map(0, UINT64_MAX);
    uint64_t objects = KNOWN;
    for (uint64_t i = 0; i < ROUNDS; i++, objects++) {
        uint32_t id = intern(i % STACKS);
        REQUIRE(id != MC_STACK_OVERFLOW || i % STACKS >= KNOWN);
        if (id != MC_STACK_OVERFLOW) check_stack(id, i % STACKS);
        count_in((unsigned)i % 12, id, 30, 32);
    }
    uint64_t lost = sum_of(MC_STACK_OVERFLOW).allocs;
    REQUIRE(lost > 0 && lost == mc_own_region.overflow_stacks);
    REQUIRE(mc_own_region.areas[MC_AREA_STACKS].count <= STACKS + MC_STACK_FIRST);
    REQUIRE_EQUAL(sum_of_all().allocs, objects);
    have_memory();
    for (uint64_t i = 0; i < 2 * STACKS; i++, objects++) {
        uint32_t id = count_in(1, intern(i % STACKS), 30, 32);
        check_stack(id, i % STACKS);
        REQUIRE_EQUAL(id, intern(i % STACKS));
    }
    REQUIRE_EQUAL(mc_own_region.areas[MC_AREA_STACKS].count, STACKS + MC_STACK_FIRST);
    REQUIRE_EQUAL(sum_of_all().allocs, objects);
    REQUIRE_EQUAL(sum_of_all().usable_in, 32 * objects);
    REQUIRE_EQUAL(mc_own_region.overflow_stacks, lost);
}

static const struct test_case cases[] = {
    {"index_grows", index_grows, 0},
    {"index_threads", index_threads, 0},
    {"index_without_any_memory", without_any, 0},
    {"index_without_larger", without_larger, 0},
    {"index_threads_without_memory", threads_without_memory, 0},
    {"index_stacks_without_memory", stacks_without_memory, 0},
};
TEST_MAIN(cases)
