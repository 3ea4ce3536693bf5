/* SPDX-License-Identifier: MIT */
/* The heap against a model: random operations, carried out by several threads but one at a time, so
 * that a seed repeats a run. The model knows every live object: where it is, how large, what it
 * holds, what its tag is. After each batch nothing runs, every invariant of the heap is asserted and
 * its totals must equal the model's exactly. */
#define _GNU_SOURCE
#include <string.h>

#include "class.h"
#include "heap.h"
#include "hooks.h"
#include "os_faulty.h"
#include "test.h"
#include "workers.h"

struct object {
    unsigned char *place; /* NULL: none */
    size_t requested, usable;
    uint64_t pattern;
    uint64_t tag;
};

/* -- contents ------------------------------------------------------------------------------ */

/* Every byte of what is small, every so many of what is not, and the last one. */
static size_t next_place(const struct object *object, size_t at)
{
    size_t step = object->usable <= 4096 ? 1 : object->usable <= 1 << 20 ? 61 : 2039;
    return at + 1 == object->usable || at + step < object->usable ? at + step : object->usable - 1;
}

static unsigned char pattern_at(const struct object *object, size_t at)
{
    return (unsigned char)((object->pattern + at) * 0x9e3779b97f4a7c15ull >> 56);
}

static void fill(struct object *object)
{
    for (size_t at = 0; at < object->usable; at = next_place(object, at))
        object->place[at] = pattern_at(object, at);
}

/* The first `size` bytes of what was filled, as they are at `place` now. */
static void check_copy(const struct object *object, const unsigned char *place, size_t size)
{
    for (size_t at = 0; at < object->usable && at < size; at = next_place(object, at))
        REQUIRE_EQUAL(place[at], pattern_at(object, at));
}

static void check_contents(const struct object *object)
{
    check_copy(object, object->place, object->usable);
}

/* -- operations ---------------------------------------------------------------------------- */

enum { PLAIN, ZERO, ALIGNED, TAGGED };

struct operation {
    struct object *object;
    size_t size, align;
    int how;
};

static uint64_t expected_tag; /* of the object that is being freed */
static uint64_t next_pattern = 1, next_tag = 1;
static uint64_t live_tags, tag_sum; /* of the model */

static void tagged_free(void *place, size_t usable, size_t requested, uint64_t tag)
{
    REQUIRE(tag && (place || requested == MC_REQUESTED_UNKNOWN));
    REQUIRE_EQUAL(tag, expected_tag);
    REQUIRE(usable > MC_SMALL_MAX || requested == MC_REQUESTED_UNKNOWN || requested <= usable);
    expected_tag = 0;
}

static void allocated(struct object *object, void *place, size_t size)
{
    REQUIRE(place && (uint64_t)place % MC_QUANTUM == 0);
    *object = (struct object){place, size, mc_usable_size(place, "test"), next_pattern++, 0};
    REQUIRE(object->usable >= size);
}

/* A slot of another class may serve the first requests of one: a power of two, not over twice as large. And
 * one of the next few those of a class that is out of slots. */
static int is_lent(const struct object *object, size_t size)
{
    unsigned own = mc_class_for(size);
    if (object->usable <= MC_LEND_BYTES && mc_is_power_of_two(object->usable))
        return object->usable < 2 * size;
    unsigned coarsest =
        own + MC_LEND_STEPS < MC_CLASS_COUNT ? own + MC_LEND_STEPS : MC_CLASS_COUNT - 1;
    if (size > MC_DIRECT_MAX) return object->usable <= mc_class_slot_size(coarsest);
    return object->usable <= MC_DIRECT_MAX && object->usable <= 2 * mc_class_slot_size(own);
}

/* As instrumentation does where a slot is at hand: the tag goes where it was found to be. */
static int alloc_tagged(struct operation *op)
{
    struct mc_tagged tagged;
    void *place = mc_alloc_tagged(op->size, &tagged);
    if (!place) return 0;
    allocated(op->object, place, op->size);
    REQUIRE(mc_tag_settable(place) && tagged.usable == op->object->usable && !*tagged.place);
    op->object->tag = next_tag++;
    mc_tag_finish(&tagged, op->size, op->object->tag);
    live_tags++;
    tag_sum += op->object->tag;
    fill(op->object);
    return 1;
}

static void alloc(void *argument)
{
    struct operation *op = argument;
    void *place;
    if (op->how == TAGGED && alloc_tagged(op)) return;
    if (op->how == ALIGNED)
        place = mc_alloc_aligned(op->size, op->align);
    else
        place = op->how == ZERO ? mc_alloc_slow(op->size, 1) : mc_alloc(op->size);
    allocated(op->object, place, op->size);
    REQUIRE(op->how != ALIGNED || (uint64_t)place % op->align == 0);
    if (op->how != ALIGNED && op->size > 128)
        REQUIRE(op->object->usable - op->size <= op->object->usable / 8 ||
                is_lent(op->object, op->size));
    for (size_t at = 0; op->how == ZERO && at < op->size; at++)
        REQUIRE_EQUAL(((unsigned char *)place)[at], 0);
    fill(op->object);
}

static void forget_tag(struct object *object)
{
    live_tags -= object->tag != 0;
    tag_sum -= object->tag;
    object->tag = 0;
}

static void release(void *argument)
{
    struct object *object = ((struct operation *)argument)->object;
    check_contents(object);
    REQUIRE_EQUAL(mc_usable_size(object->place, "test"), object->usable);
    expected_tag = object->tag;
    forget_tag(object);
    mc_free(object->place);
    REQUIRE_EQUAL(expected_tag, 0);
    object->place = 0;
}

/* As realloc(3) does it. */
static void resize(void *argument)
{
    struct operation *op = argument;
    struct object *object = op->object, before = *object;
    size_t usable, requested;
    check_contents(object);
    if (object->tag) {
        REQUIRE_EQUAL(mc_tag_take(object->place, &usable, &requested), object->tag);
        REQUIRE_EQUAL(usable, object->usable);
        forget_tag(object);
    }
    unsigned char *place = mc_realloc_short(object->place, op->size);
    if (!place) place = mc_realloc_in_place(object->place, op->size);
    if (!place) {
        place = mc_alloc(op->size);
        REQUIRE(place);
        memcpy(place, before.place, before.usable < op->size ? before.usable : op->size);
        mc_free(before.place);
    }
    check_copy(&before, place, op->size);
    allocated(object, place, op->size);
    fill(object);
}

static void tag(void *argument)
{
    struct object *object = ((struct operation *)argument)->object;
    size_t usable, requested;
    if (!mc_tag_settable(object->place) || object->tag) return;
    object->tag = next_tag++;
    REQUIRE(mc_tag_set(object->place, object->requested, object->tag));
    REQUIRE_EQUAL(mc_tag_take(object->place, &usable, &requested), object->tag);
    REQUIRE_EQUAL(usable, object->usable);
    REQUIRE(requested == MC_REQUESTED_UNKNOWN || requested == object->requested);
    REQUIRE(requested != MC_REQUESTED_UNKNOWN || usable <= MC_SMALL_MAX);
    mc_tag_put_back(object->place, object->tag);
    live_tags++;
    tag_sum += object->tag;
}

static void trim(void *argument)
{
    (void)argument;
    mc_heap_trim();
}

/* -- the run ------------------------------------------------------------------------------- */

enum { OBJECTS = 3000 };
static struct object objects[OBJECTS];

static size_t random_size(struct random *random)
{
    uint64_t kind = random_below(random, 1000);
    if (kind < 700) return random_below(random, 300);
    if (kind < 960) return random_below(random, MC_SMALL_MAX + 100);
    if (kind < 997) return random_below(random, 300000);
    return random_below(random, 2) ? random_below(random, MC_LARGE_MAX)
                                   : MC_LARGE_MAX - 5000 + random_below(random, 4 * MC_LARGE_MAX);
}

static size_t random_align(struct random *random)
{
    return 1ull << random_below(random, random_below(random, 20) ? 15 : 25);
}

static void step(struct random *random, int tags)
{
    struct operation op = {.object = &objects[random_below(random, OBJECTS)],
                           .size = random_size(random),
                           .align = random_align(random),
                           .how = (int)random_below(random, tags ? 4 : 3)};
    uint64_t what = random_below(random, 100);
    if (what == 0 && random_below(random, 20) == 0)
        replace(&workers[random_below(random, WORKERS)]);
    else if (what == 1 && random_below(random, 20) == 0)
        somewhere(random, trim, 0);
    else if (what == 2 && random_below(random, 4) == 0)
        os_faults.ms_ahead += MC_TICK_MS; /* whoever looks at the clock next purges and flushes */
    else if (!op.object->place)
        somewhere(random, alloc, &op);
    else if (what < 20)
        somewhere(random, resize, &op);
    else if (what < 50 && tags)
        somewhere(random, tag, &op);
    else
        somewhere(random, release, &op);
}

static int by_place(const void *a, const void *b)
{
    const struct object *left = a, *right = b;
    return left->place < right->place ? -1 : left->place > right->place;
}

static void check_apart(void)
{
    static struct object sorted[OBJECTS];
    memcpy(sorted, objects, sizeof(objects));
    qsort(sorted, OBJECTS, sizeof(*sorted), by_place);
    for (unsigned i = 1; i < OBJECTS; i++)
        REQUIRE(!sorted[i - 1].place ||
                sorted[i - 1].place + sorted[i - 1].usable <= sorted[i].place);
}

struct seen_tags {
    uint64_t count, sum, usable, requested;
};

static void see_tag(uint64_t tag, uint64_t usable, uint64_t requested, void *context)
{
    struct seen_tags *seen = context;
    seen->count++;
    seen->sum += tag;
    seen->usable += usable;
    seen->requested += requested == MC_REQUESTED_UNKNOWN ? 0 : requested;
}

static void check_tags(void)
{
    struct seen_tags seen = {0}, wanted = {live_tags, tag_sum, 0, 0};
    for (unsigned i = 0; i < OBJECTS; i++) {
        const struct object *object = &objects[i];
        if (!object->place || !object->tag) continue;
        wanted.usable += object->usable;
        if (object->usable > MC_SMALL_MAX || mc_span_of(object->place)->state != MC_SPAN_CLASS)
            wanted.requested += object->requested;
    }
    mc_tags_visit(see_tag, &seen);
    REQUIRE_EQUAL(seen.count, wanted.count);
    REQUIRE_EQUAL(seen.sum, wanted.sum);
    REQUIRE_EQUAL(seen.usable, wanted.usable);
    REQUIRE_EQUAL(seen.requested, wanted.requested);
}

static void check_all(void)
{
    struct mc_heap_totals totals;
    uint64_t used = 0, count = 0, huge = 0;
    for (unsigned i = 0; i < OBJECTS; i++) {
        if (!objects[i].place) continue;
        used += objects[i].usable;
        count++;
        const struct mc_span *span = mc_span_of(objects[i].place);
        REQUIRE(span);
        huge += span->state == MC_SPAN_HUGE ? objects[i].usable : 0;
    }
    check_apart();
    mc_heap_check();
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used, used);
    REQUIRE_EQUAL(totals.used_slots, count);
    REQUIRE_EQUAL(totals.huge_bytes, huge);
    REQUIRE(totals.reserved >= totals.used + totals.free_slices);
    check_tags();
}

static void run_model(uint64_t stream, int tags)
{
    struct random random = test_random(stream);
    on_tagged_free = tagged_free;
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_mutex_init(&workers[i].lock, 0);
        pthread_cond_init(&workers[i].told, 0);
        begin(&workers[i]);
    }
    for (uint64_t batch = 0; batch < test_scale(40); batch++) {
        for (unsigned i = 0; i < 2500; i++)
            step(&random, tags);
        check_all();
    }
    for (unsigned i = 0; i < OBJECTS; i++) {
        struct operation op = {.object = &objects[i]};
        if (objects[i].place) somewhere(&random, release, &op);
    }
    check_all();
}

static void model(void)
{
    run_model(10, 0);
}

static void model_tagged(void)
{
    run_model(11, 1);
}

/* When all is free, all goes back: nothing stays populated but what threads keep ready. */
static void all_free(void)
{
    enum { COUNT = 20000 };
    static void *places[COUNT];
    struct random random = test_random(12);
    struct mc_heap_totals totals;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            places[i] = mc_alloc(random_below(&random, 3000));
            memset(places[i], 1, 1);
        }
        for (unsigned i = 0; i < COUNT; i++)
            mc_free(places[i]);
        mc_heap_trim();
        mc_heap_check();
        mc_heap_totals(&totals);
        REQUIRE_EQUAL(totals.used, 0);
        REQUIRE_EQUAL(totals.used_slots, 0);
        REQUIRE_EQUAL(totals.cached, 0);
        REQUIRE_EQUAL(totals.free_slices, totals.reserved);
    }
}

static void impossible_sizes(void)
{
    static const size_t sizes[] = {
        SIZE_MAX,    SIZE_MAX - 15,      SIZE_MAX - 4096, (size_t)PTRDIFF_MAX + 1,
        PTRDIFF_MAX, PTRDIFF_MAX - 4096, 1ull << 62,      1ull << 47};
    void *kept = mc_alloc(100);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        REQUIRE(!mc_alloc(sizes[i]) && !mc_alloc_slow(sizes[i], 1));
        REQUIRE(!mc_realloc_in_place(kept, sizes[i]));
        for (size_t align = 16; align; align *= 2)
            REQUIRE(!mc_alloc_aligned(sizes[i], align));
    }
    REQUIRE(!mc_alloc_aligned(1, 1ull << 63) && !mc_alloc_aligned(1, 1ull << 62));
    mc_heap_check();
    for (size_t align = 1; align <= 1 << 26; align *= 2) {
        unsigned char *place = mc_alloc_aligned(3 * align / 2, align);
        REQUIRE(place && (uint64_t)place % align == 0);
        place[0] = place[3 * align / 2 - (align > 1)] = 1;
        mc_free(place);
    }
}

/* A slot keeps its object when realloc asks for what fits well enough. */
static void realloc_small(void)
{
    for (size_t had = 0; had <= MC_SMALL_MAX; had += had < 600 ? 1 : 97) {
        void *place = mc_alloc(had);
        size_t usable = mc_usable_size(place, "");
        REQUIRE(mc_realloc_in_place(place, usable) == place);
        size_t slack = usable / 2 < MC_SLACK_MAX ? usable / 2 : MC_SLACK_MAX - 1;
        REQUIRE(mc_realloc_in_place(place, usable - slack) == place);
        REQUIRE(slack == usable / 2 || !mc_realloc_in_place(place, usable - slack - 1));
        REQUIRE(!mc_realloc_in_place(place, usable + 1));
        REQUIRE(usable == MC_QUANTUM || !mc_realloc_in_place(place, usable / 2 - 1));
        mc_free(place);
    }
}

/* The first objects of a size lie in slots of a coarser class, the next in those of their own; an object
 * that is to be traced never does otherwise. */
static void lent_slots(void)
{
    enum { COUNT = MC_LEND_BYTES / 512 + 2 };
    void *places[COUNT], *owned = mc_alloc_owned(800, MC_QUANTUM, 0);
    REQUIRE_EQUAL(mc_usable_size(owned, ""), 832);
    for (unsigned i = 0; i < COUNT; i++) {
        places[i] = i % 2 ? mc_alloc(432) : mc_alloc_slow(432, 1);
        REQUIRE_EQUAL(mc_usable_size(places[i], ""), i < MC_LEND_BYTES / 512 ? 512 : 448);
        memset(places[i], 0x5a, 432);
    }
    mc_heap_check();
    for (unsigned i = 0; i < COUNT; i++)
        mc_free(places[i]);
    mc_free(owned);
    mc_heap_check();
}

/* The walk over all spans leaves none out, even when structs were taken that never became spans:
 * as when two threads run out of memory at once. */
static void walk_is_whole(void)
{
    struct mc_heap_totals totals;
    void *first = mc_alloc(100000);
    extern struct mc_span *mc_span_struct_take(void);
    extern void mc_span_struct_give(struct mc_span *);
    struct mc_span *one = mc_span_struct_take(), *other = mc_span_struct_take();
    mc_span_struct_give(one < other ? one : other);
    mc_span_struct_give(one < other ? other : one); /* the later one is on top, used first */
    void *second = mc_alloc(200000);
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used, mc_usable_size(first, "") + mc_usable_size(second, ""));
    REQUIRE_EQUAL(totals.used_slots, 2);
}

static const struct test_case cases[] = {
    {"model", model, 480},
    {"model_tagged", model_tagged, 480},
    {"all_free", all_free, 0},
    {"impossible_sizes", impossible_sizes, 0},
    {"realloc_small", realloc_small, 0},
    {"lent_slots", lent_slots, 0},
    {"walk_is_whole", walk_is_whole, 0},
};
TEST_MAIN(cases)
