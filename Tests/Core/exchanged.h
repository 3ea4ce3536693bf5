/* SPDX-License-Identifier: MIT */
/* Objects that threads exchange by a shared table, and can tell whether somebody else wrote to. */
#ifndef EXCHANGED_H
#define EXCHANGED_H

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "heap.h"
#include "limits.h"
#include "test.h"

/* An object says how large it is and is filled with what follows from that and its address. */
struct object {
    uint64_t size;
    uint64_t check;
    unsigned char rest[];
};

static inline uint64_t check_for(const struct object *object)
{
    return (object->size ^ (uint64_t)object) * 0x9e3779b97f4a7c15ull;
}

static inline struct object *make_object(size_t size)
{
    struct object *object = mc_alloc(size);
    REQUIRE(object && mc_usable_size(object, "") >= size);
    object->size = size;
    object->check = check_for(object);
    memset(object->rest, (int)size, size - sizeof(*object) < 256 ? size - sizeof(*object) : 256);
    if (size > sizeof(*object)) ((unsigned char *)object)[size - 1] = (unsigned char)size;
    return object;
}

static inline void check_object(const struct object *object)
{
    REQUIRE_EQUAL(object->check, check_for(object));
    for (size_t at = 0; at < 256 && at < object->size - sizeof(*object); at++)
        REQUIRE_EQUAL(object->rest[at], (unsigned char)object->size);
    REQUIRE(object->size == sizeof(*object) ||
            ((const unsigned char *)object)[object->size - 1] == (unsigned char)object->size);
}

static inline void end_object(struct object *object)
{
    check_object(object);
    object->check = 0;
    mc_free(object);
}

static inline size_t some_size(struct random *random)
{
    uint64_t kind = random_below(random, 200);
    if (kind < 180) return sizeof(struct object) + random_below(random, 500);
    if (kind < 199) return sizeof(struct object) + random_below(random, MC_SMALL_MAX);
    return MC_SMALL_MAX + random_below(random, 200000);
}

static inline void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, 0);
}

enum { THREADS = 4, PLACES = 2048 };
static struct object *places[PLACES]; /* [shared] exchanged */
static int stop;
static uint64_t rounds;

/* Puts a new object, or none, in a random place, and ends the one that was there, whose ever. */
static inline void exchange_one(struct random *random)
{
    struct object *fresh = random_below(random, 10) < 6 ? make_object(some_size(random)) : 0;
    struct object **place = &places[random_below(random, PLACES)];
    struct object *old = __atomic_exchange_n(place, fresh, __ATOMIC_ACQ_REL);
    if (old) end_object(old);
}

static pthread_barrier_t all_done;

static inline void *exchange(void *argument)
{
    struct random random = test_random((uint64_t)argument);
    for (uint64_t i = 0; i < rounds && !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
        exchange_one(&random);
        if (i % 20000 == 19999) mc_heap_trim();
    }
    /* Nobody takes a struct over before its thread was joined: that a thread has ended the heap
     * learns from the kernel, which ThreadSanitizer does not see. */
    pthread_barrier_wait(&all_done);
    return 0;
}

static inline void start(pthread_t *threads, unsigned count, void *(*function)(void *))
{
    for (unsigned i = 0; i < count; i++)
        REQUIRE(!pthread_create(&threads[i], 0, function, (void *)(uint64_t)(i + 1)));
}

static inline void join(pthread_t *threads, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        REQUIRE(!pthread_join(threads[i], 0));
}

static inline void check_places(void)
{
    struct mc_heap_totals totals;
    uint64_t used = 0, count = 0;
    for (unsigned i = 0; i < PLACES; i++) {
        if (!places[i]) continue;
        check_object(places[i]);
        used += mc_usable_size(places[i], "");
        count++;
    }
    mc_heap_check();
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used, used);
    REQUIRE_EQUAL(totals.used_slots, count);
}

static inline void end_places(void)
{
    for (unsigned i = 0; i < PLACES; i++) {
        if (places[i]) end_object(places[i]);
        places[i] = 0;
    }
}

static inline void *fill_table(void *argument)
{
    for (unsigned i = 0; i < PLACES; i++)
        places[i] = make_object((size_t)argument);
    return 0;
}

#endif
