/* SPDX-License-Identifier: MIT */
/* The heap's parts, each alone: size classes, bitmaps, pools, page map. Arenas: arenas_test.c. */
#define _GNU_SOURCE
#include <string.h>

#include "bitmap.h"
#include "class.h"
#include "meta.h"
#include "pagemap.h"
#include "reuse.h"
#include "root.h"
#include "span.h"
#include "test.h"

/* -- classes ------------------------------------------------------------------------------- */

static void classes(void)
{
    for (unsigned index = 0; index < MC_CLASS_COUNT; index++) {
        uint64_t slot = mc_class_slot_size(index);
        REQUIRE_EQUAL(mc_class_for(slot), index);
        REQUIRE_EQUAL(slot % MC_QUANTUM, 0);
        REQUIRE(!index || slot > mc_class_slot_size(index - 1));
        if (index + 1 < MC_CLASS_COUNT) REQUIRE_EQUAL(mc_class_for(slot + 1), index + 1);
        unsigned lender = mc_class_lender(index);
        uint64_t lent = mc_class_slot_size(lender);
        REQUIRE_EQUAL(mc_class_lender(lender), lender);
        REQUIRE(lender == index || (lent > slot && lent < 2 * slot && lent <= MC_LEND_BYTES));
    }
    REQUIRE_EQUAL(mc_class_slot_size(MC_CLASS_COUNT - 1), MC_SMALL_MAX);
    for (size_t size = 0; size <= MC_SMALL_MAX; size++) {
        unsigned index = mc_class_for(size);
        uint64_t slot = mc_class_slot_size(index);
        REQUIRE(index < MC_CLASS_COUNT && slot >= size);
        REQUIRE(!index || mc_class_slot_size(index - 1) < size); /* the smallest that will do */
        if (size > 128)
            REQUIRE((slot - size) * 8 <= slot);
        else
            REQUIRE(slot - size < MC_QUANTUM || !size);
    }
}

/* mc_aligned_size() leads to a class of which every slot is aligned: the first that will do. */
static void class_aligned(void)
{
    for (size_t align = 1; align <= MC_SLICE; align *= 2) {
        for (size_t size = 0; size <= MC_SMALL_MAX - align; size++) {
            unsigned index = mc_class_for(mc_aligned_size(size, align));
            REQUIRE(mc_class_slot_size(index) % align == 0 && mc_class_slot_size(index) >= size);
            unsigned first = mc_class_for(size < align ? align : size);
            while (mc_class_slot_size(first) % align)
                first++;
            REQUIRE_EQUAL(index, first);
        }
    }
}

static void class_spans(void)
{
    for (unsigned index = 0; index < MC_CLASS_COUNT; index++) {
        uint64_t slot = mc_class_slot_size(index);
        uint64_t bytes = mc_class_span_slices(index) * (uint64_t)MC_SLICE, slots = bytes / slot;
        REQUIRE(slots >= (slot > 32768 ? MC_SPAN_SLOTS_MIN : MC_SPAN_SLOTS));
        REQUIRE(slots < 1u << 15); /* `remote` counts in 16 bits */
        REQUIRE(bytes <= MC_SPAN_SLICES_MAX * MC_SLICE);
        REQUIRE((bytes - slots * slot) * 16 <= bytes); /* slots of 7680 bytes are the worst */
        if (index < MC_DIRECT_CLASSES) REQUIRE(mc_reuse_room(index) <= slots);
        struct mc_span span = {
            .state = MC_SPAN_CLASS, .class_index = (uint8_t)index, .slot_count = (uint16_t)slots};
        REQUIRE_EQUAL(mc_span_size(&span), bytes);
    }
}

/* mc_free() divides by a multiplication: right for every offset a span can have, however many slots are carved. */
static void reciprocals(void)
{
    for (unsigned index = 0; index < MC_CLASS_COUNT; index++) {
        uint64_t slot = mc_class_slot_size(index), reciprocal = mc_reciprocal_of(slot);
        uint64_t bytes = mc_class_span_slices(index) * (uint64_t)MC_SLICE, fresh = bytes / slot / 3;
        for (uint64_t offset = 0; offset < bytes; offset++) {
            unsigned __int128 product = (unsigned __int128)offset * reciprocal;
            int starts = offset % slot == 0;
            REQUIRE_EQUAL((uint64_t)(product >> 64), offset / slot);
            REQUIRE_EQUAL((uint64_t)product < reciprocal, starts);
            REQUIRE_EQUAL((uint64_t)product < mc_limit_of(fresh, slot),
                          starts && offset / slot < fresh);
        }
    }
}

/* No pointer elsewhere is taken for one to a slot: right before and behind the span, as far away as may be, and
 * anywhere in between, at a multiple of the slot size or not. */
static void far_away(void)
{
    struct random random = test_random(7);
    for (unsigned index = 0; index < MC_CLASS_COUNT; index++) {
        uint64_t slot = mc_class_slot_size(index), reciprocal = mc_reciprocal_of(slot);
        uint64_t most = mc_class_span_slices(index) * (uint64_t)MC_SLICE / slot;
        uint64_t limit = mc_limit_of(most, slot), far = 1ull << 46;
        REQUIRE((far / slot + most + 1) * (reciprocal * slot) < reciprocal);
        for (uint64_t i = 0; i < 3 * slot + 30000; i++) {
            uint64_t place = random_below(&random, far), whole = place / slot * slot;
            uint64_t offsets[] = {
                most * slot + i,     -i - 1,     far - 1 - i,         i - far,
                place + most * slot, -place - 1, whole + most * slot, -whole - slot};
            for (unsigned k = 0; k < sizeof(offsets) / sizeof(*offsets); k++)
                REQUIRE(offsets[k] * reciprocal >= limit);
        }
        REQUIRE(0 * reciprocal < limit && (most - 1) * slot * reciprocal < limit);
    }
}

/* -- bitmaps ------------------------------------------------------------------------------- */

enum { BITS = 512 };

static void compare_bits(const uint64_t *words, const unsigned char *model)
{
    for (unsigned i = 0; i < BITS; i++)
        REQUIRE_EQUAL(words[i / 64] >> i % 64 & 1, model[i]);
}

static uint64_t model_find(const unsigned char *model, uint64_t from, uint64_t count, uint64_t step,
                           uint64_t phase)
{
    for (uint64_t bit = from; bit + count <= BITS; bit++) {
        if (bit % step == phase && !memchr(model + bit, 1, count)) return bit;
    }
    return MC_BITS_NONE;
}

static uint64_t model_count(const unsigned char *model, uint64_t first, uint64_t count)
{
    uint64_t set = 0;
    for (uint64_t bit = first; bit < first + count; bit++)
        set += model[bit];
    return set;
}

/* A run of random place and length, long ones rare; `words` is touched over the whole bitmap. */
static uint64_t random_run(struct random *random, uint64_t *count)
{
    uint64_t most = random_below(random, 4) ? 8 : BITS;
    *count = 1 + random_below(random, most);
    return random_below(random, BITS - *count + 1);
}

static void bitmaps(void)
{
    struct random random = test_random(1);
    uint64_t words[BITS / 64] = {0}, count;
    unsigned char model[BITS] = {0};
    for (uint64_t i = 0; i < test_scale(400000); i++) {
        uint64_t first = random_run(&random, &count);
        switch (random_below(&random, 5)) {
        case 0:
            if (i % 2)
                mc_bits_clear(words, first, count);
            else
                REQUIRE_EQUAL(mc_bits_clear_set(words, first, count),
                              model_count(model, first, count));
            memset(model + first, 0, count);
            break;
        case 1:
            REQUIRE_EQUAL(mc_bits_set(words, first, count), model_count(model, first, count));
            memset(model + first, 1, count);
            break;
        case 2: {
            int free = !memchr(model + first, 1, count);
            REQUIRE_EQUAL(mc_bits_claim(words, first, count), free);
            if (free) memset(model + first, 1, count);
            break;
        }
        default: {
            uint64_t step = 1ull << random_below(&random, 7), phase = random_below(&random, step);
            REQUIRE_EQUAL(mc_bits_find(words, BITS, first, count, step, phase),
                          model_find(model, first, count, step, phase));
        }
        }
        if (i % 64 == 0) compare_bits(words, model);
    }
}

/* In two bitmaps: clear in the first and set in the second. */
static void bitmaps_of_two(void)
{
    struct random random = test_random(2);
    uint64_t words[BITS / 64], only[BITS / 64], count;
    for (uint64_t i = 0; i < test_scale(20000); i++) {
        unsigned char model[BITS];
        for (unsigned word = 0; word < BITS / 64; word++) {
            words[word] = random_next(&random) & random_next(&random) & random_next(&random);
            only[word] = ~(random_next(&random) & random_next(&random));
        }
        for (uint64_t bit = 0; bit < BITS; bit++)
            model[bit] = (words[bit / 64] | ~only[bit / 64]) >> bit % 64 & 1;
        uint64_t from = random_run(&random, &count), step = 1ull << random_below(&random, 4);
        uint64_t phase = random_below(&random, step);
        count = 1 + count % 12;
        uint64_t first = mc_bits_find_in(words, only, BITS, from, count, step, phase);
        REQUIRE_EQUAL(first, model_find(model, from, count, step, phase));
        if (first == MC_BITS_NONE) continue;
        const unsigned char *end = memchr(model + first, 1, BITS - first);
        REQUIRE_EQUAL(mc_bits_run_in(words, only, BITS, first),
                      (end ? (uint64_t)(end - model) : BITS) - first);
    }
}

struct claimers {
    uint64_t words[BITS / 64];
    uint32_t owner[BITS]; /* plain on purpose: a bit owned twice is a data race too */
    uint64_t rounds;
};

static void *claim_runs(void *argument)
{
    static uint32_t next_number;
    struct claimers *shared = argument;
    uint32_t number = __atomic_add_fetch(&next_number, 1, __ATOMIC_RELAXED);
    struct random random = test_random(100 + number);
    for (uint64_t i = 0; i < shared->rounds; i++) {
        uint64_t count = 1 + random_below(&random, 100);
        uint64_t from = random_below(&random, BITS - count);
        uint64_t first = mc_bits_find(shared->words, BITS, from, count, 1, 0);
        if (first == MC_BITS_NONE || !mc_bits_claim(shared->words, first, count)) continue;
        for (uint64_t bit = first; bit < first + count; bit++) {
            REQUIRE_EQUAL(shared->owner[bit], 0);
            shared->owner[bit] = number;
        }
        for (uint64_t bit = first; bit < first + count; bit++) {
            REQUIRE_EQUAL(shared->owner[bit], number);
            shared->owner[bit] = 0;
        }
        mc_bits_clear(shared->words, first, count);
    }
    return 0;
}

static void bitmap_threads(void)
{
    static struct claimers shared;
    shared.rounds = test_scale(200000);
    test_together(claim_runs, &shared);
    for (unsigned i = 0; i < BITS / 64; i++)
        REQUIRE_EQUAL(shared.words[i], 0);
}

/* -- metadata and pools -------------------------------------------------------------------- */

static void metadata(void)
{
    enum { COUNT = 2000 };
    static char *items[COUNT];
    static size_t sizes[COUNT];
    struct random random = test_random(2);
    for (unsigned i = 0; i < COUNT; i++) {
        sizes[i] = 1 + random_below(&random, random_below(&random, 10) ? 500 : 40000);
        items[i] = mc_meta_alloc(sizes[i]);
        REQUIRE(items[i] && (uint64_t)items[i] % MC_CACHE_LINE == 0);
        for (size_t at = 0; at < sizes[i]; at++)
            REQUIRE_EQUAL(items[i][at], 0);
        memset(items[i], (int)i, sizes[i]);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        for (size_t at = 0; at < sizes[i]; at++)
            REQUIRE_EQUAL(items[i][at], (char)i);
    }
}

/* 1 if the bytes are in a range that the root leads to. */
static int is_listed(const char *start, size_t size)
{
    const struct mc_meta_list *list = (const struct mc_meta_list *)mc_root()->meta_lists;
    for (; list; list = (const struct mc_meta_list *)list->next) {
        for (unsigned i = 0; i < MC_META_LIST_MAX; i++) {
            const struct mc_meta_range *range = &list->ranges[i];
            if (range->start <= (uint64_t)start &&
                (uint64_t)start + size <= range->start + range->size)
                return 1;
        }
    }
    return 0;
}

/* More than several lists hold; what went is listed no more. */
static void metadata_is_listed(void)
{
    enum { COUNT = 200 };
    static void *mapped[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        mapped[i] = mc_meta_map(MC_PAGE * (1 + i % 3));
        REQUIRE(mapped[i] && is_listed(mapped[i], MC_PAGE * (1 + i % 3)));
        char *item = mc_meta_alloc(1000);
        REQUIRE(item && is_listed(item, 1000));
    }
    mc_meta_check();
    uint64_t counted = mc_root()->metadata_bytes;
    for (unsigned i = 0; i < COUNT; i++) {
        mc_meta_unmap(mapped[i], MC_PAGE * (1 + i % 3));
        REQUIRE(!is_listed(mapped[i], MC_PAGE));
        counted -= MC_PAGE * (1 + i % 3);
    }
    REQUIRE_EQUAL(mc_root()->metadata_bytes, counted);
    mc_meta_check();
}

struct item {
    uint64_t next;
    uint64_t owner;
};

static struct mc_pool pool;
static uint64_t pool_rounds;

static void *take_and_give(void *argument)
{
    uint64_t number = (uint64_t)&number; /* another one each thread */
    (void)argument;
    struct random random = test_random(number);
    struct item *held[8] = {0};
    for (uint64_t i = 0; i < pool_rounds; i++) {
        struct item **place = &held[random_below(&random, 8)];
        if (*place) {
            REQUIRE_EQUAL(__atomic_exchange_n(&(*place)->owner, 0, __ATOMIC_RELAXED), number);
            mc_pool_give(&pool, *place);
            *place = 0;
        } else if ((*place = mc_pool_take(&pool))) {
            REQUIRE_EQUAL(__atomic_load_n(&(*place)->next, __ATOMIC_RELAXED), 0);
            REQUIRE_EQUAL(__atomic_exchange_n(&(*place)->owner, number, __ATOMIC_RELAXED), 0);
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        if (held[i]) {
            held[i]->owner = 0;
            mc_pool_give(&pool, held[i]);
        }
    }
    return 0;
}

/* Few items and many takers: the case where one that left comes back at once. */
static void pool_threads(void)
{
    enum { ITEMS = 12 };
    pool_rounds = test_scale(400000);
    for (unsigned i = 0; i < ITEMS; i++)
        mc_pool_give(&pool, mc_meta_alloc(sizeof(struct item)));
    test_together(take_and_give, 0);
    unsigned left = 0;
    while (mc_pool_take(&pool))
        left++;
    REQUIRE_EQUAL(left, ITEMS);
}

/* -- page map ------------------------------------------------------------------------------ */

static void page_map(void)
{
    static struct mc_span a, b;
    uint64_t leaf = 1ull << MC_LEAF_SHIFT;
    uint64_t places[] = {16 * leaf - 3 * MC_SLICE, 7 * leaf, (1ull << 47) - 8 * MC_SLICE, MC_SLICE};
    for (unsigned i = 0; i < sizeof(places) / sizeof(*places); i++) {
        uint64_t base = places[i], end = base + 6 * MC_SLICE;
        REQUIRE(!mc_page_map_find((void *)base));
        REQUIRE_EQUAL(mc_page_map_set(base, 6, &a), 0);
        for (uint64_t at = base; at < end; at += MC_PAGE)
            REQUIRE(mc_page_map_find((void *)at) == &a &&
                    mc_page_map_find((void *)(at + 4095)) == &a);
        REQUIRE(!mc_page_map_find((void *)(base - 1)) && !mc_page_map_find((void *)end));
        REQUIRE_EQUAL(mc_page_map_set(end, 1, &b), 0);
        mc_page_map_clear(base, 6);
        for (uint64_t at = base; at < end; at += MC_SLICE)
            REQUIRE(!mc_page_map_find((void *)at));
        REQUIRE(mc_page_map_find((void *)end) == &b);
        mc_page_map_clear(end, 1);
    }
    /* Addresses that no program has. */
    static const uint64_t wild[] = {0,
                                    1,
                                    1ull << 47,
                                    (1ull << 47) + 5,
                                    1ull << 48,
                                    1ull << 63,
                                    0xffff800000000000,
                                    UINT64_MAX,
                                    UINT64_MAX - MC_SLICE};
    for (unsigned i = 0; i < sizeof(wild) / sizeof(*wild); i++)
        REQUIRE(!mc_page_map_find((void *)wild[i]));
    REQUIRE(mc_page_map_set((1ull << 47) - MC_SLICE, 2, &a) != 0);
    REQUIRE(!mc_page_map_find((void *)((1ull << 47) - MC_SLICE)));
}

static void *set_leaves(void *argument)
{
    struct mc_span *mine = (struct mc_span *)(uint64_t)(0x1000 + 128 * (uint64_t)&argument);
    for (uint64_t i = 0; i < 64; i++) {
        uint64_t number = __atomic_fetch_add((uint64_t *)argument, 1, __ATOMIC_RELAXED);
        uint64_t base = (100 + number / 8) * (1ull << MC_LEAF_SHIFT) + number % 8 * MC_SLICE;
        REQUIRE_EQUAL(mc_page_map_set(base, 1, mine), 0);
        REQUIRE(mc_page_map_find((void *)base) == mine);
    }
    return 0;
}

/* Leaves that several threads make at once are made once; what each stored is there. */
static void page_map_threads(void)
{
    static uint64_t next;
    test_together(set_leaves, &next);
    for (uint64_t number = 0; number < next; number++) {
        uint64_t base = (100 + number / 8) * (1ull << MC_LEAF_SHIFT) + number % 8 * MC_SLICE;
        REQUIRE(mc_page_map_find((void *)base) != 0);
    }
    /* And no more than that was kept: 512 KiB a leaf, and perhaps one put by. */
    uint64_t leaves = (next + 7) / 8;
    REQUIRE(mc_root()->metadata_bytes <= (leaves + 1) * (MC_LEAF_COUNT * 8));
}

static const struct test_case cases[] = {
    {"classes", classes, 0},
    {"class_aligned", class_aligned, 0},
    {"class_spans", class_spans, 0},
    {"reciprocals", reciprocals, 0},
    {"reciprocals_far_away", far_away, 0},
    {"bitmaps", bitmaps, 0},
    {"bitmaps_of_two", bitmaps_of_two, 0},
    {"bitmap_threads", bitmap_threads, 0},
    {"metadata", metadata, 0},
    {"metadata_is_listed", metadata_is_listed, 0},
    {"pool_threads", pool_threads, 0},
    {"page_map", page_map, 0},
    {"page_map_threads", page_map_threads, 0},
};
TEST_MAIN(cases)
