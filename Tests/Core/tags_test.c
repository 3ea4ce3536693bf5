/* SPDX-License-Identifier: MIT */
/* Where tags lie: in two arrays a span, made when they are needed, with and without memory, and given back with
 * the span. */
#define _GNU_SOURCE
#include "class.h"
#include "heap.h"
#include "hooks.h"
#include "meta.h"
#include "os_faulty.h"
#include "root.h"
#include "span.h"
#include "tag.h"
#include "test.h"

enum { SLOTS_MOST = MC_SLICE / MC_QUANTUM, FIRST_TAG = 7 };

static void *objects[SLOTS_MOST];
static uint64_t taken; /* sum of the tags that frees took off */

static void note_free(void *object, size_t usable, size_t requested, uint64_t tag)
{
    (void)object;
    (void)requested;
    REQUIRE(usable);
    taken += tag;
}

static uint64_t lines(uint64_t tags)
{
    return mc_round_up(tags * sizeof(uint64_t), MC_CACHE_LINE);
}

/* A whole span of slots of that size, in the order of addresses; how many there are. */
static unsigned fill(size_t size)
{
    struct mc_span *span = mc_span_of(objects[0] = mc_alloc_owned(size, MC_QUANTUM, 0));
    REQUIRE(mc_slot_size(span) == size && span->base == (uint64_t)objects[0]);
    for (unsigned i = 1; i < span->slot_count; i++) {
        objects[i] = mc_alloc_owned(size, MC_QUANTUM, 0);
        REQUIRE_EQUAL((uint64_t)objects[i], span->base + i * size);
    }
    return span->slot_count;
}

/* Every slot has a word of its own, and none lies in an array that there is no need for. */
static void two_arrays(size_t size)
{
    uint64_t before = mc_root()->tag_bytes, sum = 0;
    unsigned count = fill(size), early = mc_tags_first(count);
    struct mc_span *span = mc_span_of(objects[0]);
    for (unsigned i = 0; i < count; i++) {
        REQUIRE_EQUAL(mc_tag_is_early(i, count), i < early);
        REQUIRE(mc_tag_set(objects[i], size, FIRST_TAG + i));
        uint64_t wanted = lines(early) + (i < early ? 0 : lines(count - early));
        REQUIRE_EQUAL(mc_root()->tag_bytes - before, wanted);
        REQUIRE_EQUAL(span->more_tags != 0, i >= early);
        sum += FIRST_TAG + i;
    }
    for (unsigned i = 0; i < count; i++)
        REQUIRE_EQUAL(mc_tag_of_slot(span, objects[i]), FIRST_TAG + i);
    taken = 0;
    for (unsigned i = 0; i < count; i++)
        mc_free(objects[i]);
    REQUIRE_EQUAL(taken, sum);
    mc_heap_check();
    mc_heap_trim();
    REQUIRE_EQUAL(mc_root()->tag_bytes, before);
}

static void tags_in_two_arrays(void)
{
    on_tagged_free = note_free;
    for (unsigned i = 0; i < MC_CLASS_COUNT; i++)
        two_arrays(mc_class_slot_size(i));
}

/* Arrays of spans that are gone serve others, of whatever class. */
static void tags_arrays_again(void)
{
    on_tagged_free = note_free;
    two_arrays(64);
    uint64_t metadata = mc_root()->metadata_bytes;
    for (unsigned i = 0; i < 1000; i++)
        two_arrays(64);
    REQUIRE_EQUAL(mc_root()->metadata_bytes, metadata);
}

/* Only the others: the first are of objects that were there before. */
static void tags_late_only(void)
{
    on_tagged_free = note_free;
    unsigned count = fill(64), early = mc_tags_first(count);
    struct mc_span *span = mc_span_of(objects[0]);
    REQUIRE(mc_tag_set(objects[count - 1], 64, FIRST_TAG));
    REQUIRE(!span->tags && span->more_tags && mc_span_has_tags(span));
    REQUIRE_EQUAL(mc_root()->tag_bytes, lines(count - early));
    taken = 0;
    for (unsigned i = 0; i < count; i++) {
        REQUIRE_EQUAL(mc_tag_of_slot(span, objects[i]), i + 1 < count ? 0 : FIRST_TAG);
        mc_free(objects[i]);
    }
    REQUIRE_EQUAL(taken, FIRST_TAG);
    mc_heap_check();
}

/* A slot of which there is no memory for the tag has none, those of the other array keep theirs. */
static void tags_without_memory(void)
{
    on_tagged_free = note_free;
    unsigned count = fill(MC_QUANTUM), early = mc_tags_first(count);
    struct mc_span *span = mc_span_of(objects[0]);
    REQUIRE(mc_tag_set(objects[0], 1, FIRST_TAG));
    os_faults.kinds = OS_MAP;
    os_faults.fail_at = os_faults.calls;
    os_faults.fail_count = UINT64_MAX;
    while (mc_meta_alloc(MC_CACHE_LINE)) {
    } /* until the kernel is asked */
    REQUIRE(!mc_tag_set(objects[early], 1, FIRST_TAG));
    REQUIRE(mc_tag_set(objects[1], 1, FIRST_TAG) && !span->more_tags);
    taken = 0;
    mc_free(objects[early]);
    REQUIRE_EQUAL(taken, 0);
    os_faults.kinds = 0;
    REQUIRE(mc_tag_set(objects[early + 1], 1, FIRST_TAG) && span->more_tags);
    for (unsigned i = 0; i < count; i++) {
        if (i != early) mc_free(objects[i]);
    }
    REQUIRE_EQUAL(taken, 3 * FIRST_TAG);
    mc_heap_check();
}

static const struct test_case cases[] = {
    {"tags_in_two_arrays", tags_in_two_arrays, 0},
    {"tags_arrays_again", tags_arrays_again, 0},
    {"tags_late_only", tags_late_only, 0},
    {"tags_without_memory", tags_without_memory, 0},
};
TEST_MAIN(cases)
