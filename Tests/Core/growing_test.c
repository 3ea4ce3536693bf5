/* SPDX-License-Identifier: MIT */
/* Small objects that grow: where they go on growing, how many of them a thread may have, and how they leave. */
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "growing.h"
#include "heap.h"
#include "large_kept.h"
#include "limits.h"
#include "os_faulty.h"
#include "pagemap.h"
#include "test.h"
#include "thread.h"

static void sign(unsigned char *place, size_t size)
{
    for (size_t at = 0; at < size; at++)
        place[at] = (unsigned char)(size + at * 7);
}

static void check_signed(const unsigned char *place, size_t size, size_t kept)
{
    for (size_t at = 0; at < kept; at++)
        REQUIRE_EQUAL(place[at], (unsigned char)(size + at * 7));
}

/* As realloc(3) does it. What is kept was signed. */
static unsigned char *resize(unsigned char *place, size_t had, size_t size)
{
    unsigned char *fresh = mc_realloc_short(place, size);
    if (!fresh) fresh = mc_realloc_in_place(place, size);
    if (!fresh) {
        fresh = mc_alloc(size);
        REQUIRE(fresh);
        memcpy(fresh, place, had < size ? had : size);
        mc_free(place);
    }
    REQUIRE(mc_usable_size(fresh, "") >= size && (uint64_t)fresh % MC_QUANTUM == 0);
    check_signed(fresh, had, had < size ? had : size);
    sign(fresh, size);
    return fresh;
}

static unsigned char *make(size_t size)
{
    unsigned char *place = mc_alloc(size);
    sign(place, size);
    return place;
}

static int is_growing(const void *place)
{
    const struct mc_span *span = mc_span_of(place);
    return span->state == MC_SPAN_LARGE && span->flags & MC_SPAN_GROWING;
}

/* Its own page, and from there on no copy; once it is no small one any more it is not counted. */
static void grows_in_place(void)
{
    unsigned char *place = make(200), *first;
    size_t size = MC_GROW_FIRST + MC_QUANTUM;
    place = resize(place, 200, MC_GROW_FIRST - MC_QUANTUM);
    REQUIRE(!is_growing(place) && !mc_growing_count(mc_self));
    place = first = resize(place, MC_GROW_FIRST - MC_QUANTUM, size);
    for (; size + size / 2 < MC_GROW_MIN; size += size / 2) {
        REQUIRE(is_growing(place) && mc_growing_count(mc_self) == 1);
        REQUIRE_EQUAL(mc_usable_size(place, ""), (size + MC_PAGE - 1) & ~(MC_PAGE - 1ull));
        place = resize(place, size, size + size / 2);
        REQUIRE(place == first);
    }
    REQUIRE(resize(place, size, MC_GROW_MIN) == first);
    REQUIRE(!is_growing(place) && !mc_growing_count(mc_self));
    for (size = MC_GROW_MIN; size + size / 2 < MC_GROWING_SIZE; size += size / 2)
        REQUIRE(resize(place, size, size + size / 2) == first);
    mc_heap_check();
    mc_free(place);
    place = resize(make(300), 300, 600);
    REQUIRE(place == first && mc_growing_count(mc_self) == 1); /* where the last one was */
    mc_free(place);
    REQUIRE(!mc_growing_count(mc_self));
    mc_heap_check();
}

/* To less than it had: to a slot of its size. */
static void shrinks_to_fit(void)
{
    unsigned char *place = resize(resize(make(300), 300, 600), 600, 3000), *fit;
    REQUIRE(is_growing(place));
    REQUIRE(resize(place, 3000, 3000) == place);
    fit = resize(place, 3000, 2900);
    REQUIRE(fit != place && !is_growing(fit) && !mc_growing_count(mc_self));
    REQUIRE(mc_usable_size(fit, "") < MC_PAGE);
    mc_heap_check();
    mc_free(fit);
    /* The same once it has grown up. */
    place = resize(resize(make(300), 300, 600), 600, 20000);
    fit = resize(place, 20000, 700);
    REQUIRE(fit != place && mc_usable_size(fit, "") < MC_PAGE);
    mc_free(fit);
    mc_heap_check();
}

enum { MANY = 3 * MC_GROWING_COUNT };

static void *free_all(void *places)
{
    for (unsigned i = 0; i < MANY; i++)
        mc_free(((void **)places)[i]);
    return 0;
}

static void *free_one(void *place)
{
    mc_free(place);
    return 0;
}

/* Those beyond the count lie in slots, and what another thread frees is counted for the one that made it. */
static void are_counted(void)
{
    void *places[MANY];
    struct mc_heap_totals totals;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < MANY; i++) {
            places[i] = resize(make(400), 400, 800);
            REQUIRE(is_growing(places[i]) == (i < MC_GROWING_COUNT));
        }
        REQUIRE_EQUAL(mc_growing_count(mc_self), MC_GROWING_COUNT);
        mc_heap_check();
        pthread_t thread;
        REQUIRE(!pthread_create(&thread, 0, free_all, places));
        pthread_join(thread, 0);
        REQUIRE_EQUAL(mc_growing_count(mc_self), 0);
    }
    mc_heap_trim();
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used, 0);
    mc_heap_check();
}

/* A tag is the caller's to take off and to put on; until then the object stays as it is. */
static void are_tagged(void)
{
    size_t usable, requested;
    unsigned char *place = resize(make(300), 300, 600);
    REQUIRE(mc_tag_set(place, 600, 77));
    REQUIRE(!mc_realloc_short(place, 900) && !mc_realloc_short(place, 500));
    REQUIRE_EQUAL(mc_tag_take(place, &usable, &requested), 77);
    REQUIRE(usable == MC_PAGE && requested == 600);
    REQUIRE(mc_realloc_in_place(place, 900) == place && is_growing(place));
    REQUIRE(mc_tag_set(place, 900, 78));
    /* Refused, it is what it was. */
    REQUIRE(!mc_realloc_in_place(place, 2 * MC_LARGE_MAX) && is_growing(place));
    REQUIRE(mc_tag_take(place, &usable, &requested) == 78 && requested == 900);
    mc_tag_put_back(place, 78);
    mc_heap_check();
    mc_free(place);
    REQUIRE_EQUAL(mc_growing_count(mc_self), 0);
    unsigned char *small = make(300);
    REQUIRE(mc_tag_set(small, 300, 79));
    REQUIRE(!mc_realloc_short(small, 310) && !mc_realloc_short(small, 600));
    mc_free(small);
}

/* Another thread's, and one of which nothing is left: not for the short path, nor changed by it. */
static void *try_short(void *place)
{
    return mc_realloc_short(place, 250);
}

static void not_plain(void)
{
    unsigned char *place = make(200);
    void *moved;
    pthread_t thread;
    REQUIRE(!pthread_create(&thread, 0, try_short, place));
    pthread_join(thread, &moved);
    REQUIRE(!moved);
    check_signed(place, 200, 200);
    REQUIRE(!mc_realloc_short(0, 100) && !mc_realloc_short(place, 0));
    REQUIRE(!mc_realloc_short(place + 16, 100) && !mc_realloc_short(place, SIZE_MAX));
    mc_free(place);
    REQUIRE(!mc_realloc_short(place, 100) && !mc_realloc_short(place, 600));
    REQUIRE(!mc_growing_count(mc_self));
    mc_heap_check();
}

/* Where no large span can be had, a slot will do. */
static void without_slices(void)
{
    unsigned char *places[MANY];
    unsigned count = 0;
    for (; count < MANY; count++)
        places[count] = make(400);
    void *walls[4096];
    unsigned walled = 0;
    os_faults.bytes_limit = os_faults.bytes;
    while (walled < 4096 && (walls[walled] = mc_alloc(MC_SMALL_MAX + 1)))
        walled++;
    for (unsigned i = 0; i < count; i++) {
        unsigned char *same = mc_realloc_short(places[i], 700);
        if (!same) continue; /* no slot either */
        check_signed(same, 400, 400);
        places[i] = same;
    }
    os_faults.bytes_limit = UINT64_MAX;
    mc_heap_check();
    while (count--)
        mc_free(places[count]);
    while (walled--)
        mc_free(walls[walled]);
    REQUIRE_EQUAL(mc_growing_count(mc_self), 0);
    mc_heap_check();
}

/* A forked child goes on with what its parent was growing. */
static void are_inherited(void)
{
    unsigned char *place = resize(make(300), 300, 600);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (!child) {
        unsigned char *same = resize(place, 600, 5000);
        mc_free(resize(same, 5000, 100000));
        mc_heap_check();
        _exit(mc_growing_count(mc_self) ? 1 : 0);
    }
    int status;
    REQUIRE(waitpid(child, &status, 0) == child && !status);
    place = resize(place, 600, 6000);
    mc_free(place);
    mc_heap_check();
}

/* Any thread grows and frees what any other has made. */
enum { PLACES = 64, GROWERS = 3 };
static uint64_t shared[PLACES];
static pthread_barrier_t all_done;

struct piece {
    uint64_t size; /* it is signed behind this */
};

static void *grow_any(void *stream)
{
    struct random random = test_random((uint64_t)stream);
    for (uint64_t i = 0; i < test_scale(20000); i++) {
        uint64_t *at = &shared[random_below(&random, PLACES)], none = 0;
        struct piece *piece = (struct piece *)mc_take(at);
        size_t had = piece ? piece->size : 100, size = had + random_below(&random, had);
        unsigned char *place = (unsigned char *)piece;
        if (piece) memset(place, 0, sizeof(*piece));
        if (!piece) {
            place = mc_alloc(had);
            size = had;
        } else if (random_below(&random, 8) && size < 100000) {
            unsigned char last = place[had - 1];
            unsigned char *same = mc_realloc_short(place, size);
            if (!same) same = mc_realloc_in_place(place, size);
            if (!same) {
                same = mc_alloc(size);
                memcpy(same, place, had);
                mc_free(place);
            }
            place = same;
            REQUIRE(place[had - 1] == last);
        } else {
            mc_free(place);
            continue;
        }
        place[size - 1] = (unsigned char)random_below(&random, 256);
        ((struct piece *)place)->size = size;
        if (!mc_swap_if(at, &none, (uint64_t)place)) mc_free(place);
        if (!random_below(&random, 200)) mc_kept_flush_all(); /* as at a tick */
    }
    /* None ends while another may still look after ended threads. */
    pthread_barrier_wait(&all_done);
    return 0;
}

static void in_threads(void)
{
    pthread_t threads[GROWERS];
    pthread_barrier_init(&all_done, 0, GROWERS);
    for (uint64_t i = 0; i < GROWERS; i++)
        REQUIRE(!pthread_create(&threads[i], 0, grow_any, (void *)(50 + i)));
    for (unsigned i = 0; i < GROWERS; i++)
        pthread_join(threads[i], 0);
    for (unsigned i = 0; i < PLACES; i++)
        mc_free((void *)shared[i]);
    mc_heap_check();
    for (struct mc_thread *thread = mc_thread_first(); thread; thread = mc_thread_next(thread))
        REQUIRE_EQUAL(mc_growing_count(thread), 0);
}

/* Where others have what is behind, a next one would be copied as soon as it outgrows the span: it begins
 * elsewhere, unless what grew there was small. */
static void not_where_blocked(void)
{
    enum { MOST = MC_GROWING_SIZE - MC_PAGE, LITTLE = MC_GROW_FIRST + MC_QUANTUM, TRIES = 100 };
    unsigned char *first = resize(make(300), 300, LITTLE);
    void *others[TRIES];
    unsigned count = 0;
    while (!mc_page_map_find(first + MC_GROWING_SIZE)) {
        REQUIRE(count < TRIES);
        others[count++] = mc_alloc(2 * MC_SMALL_MAX);
    }
    mc_free(mc_alloc_growing(2 * MC_SMALL_MAX)); /* with room: the thread's rest from now on */
    mc_free(first);
    unsigned char *place = resize(make(300), 300, LITTLE);
    REQUIRE(place == first);
    for (size_t size = LITTLE; size < MOST; size = size + size / 2 < MOST ? size + size / 2 : MOST)
        place = resize(place, size, size + size / 2 < MOST ? size + size / 2 : MOST);
    REQUIRE(place == first);
    mc_free(place);
    place = resize(make(300), 300, LITTLE);
    REQUIRE(place != first && is_growing(place));
    mc_free(place);
    while (count)
        mc_free(others[--count]);
    mc_heap_check();
}

/* Each grows far and is freed. */
static void grow_some(unsigned count)
{
    while (count--)
        mc_free(resize(resize(make(100), 100, MC_GROW_FIRST - 1), MC_GROW_FIRST - 1, 2000));
}

/* Objects that grow begin at MC_GROW_EARLY once so many have come far, and are not copied any more from there on. */
static void begins_early(void)
{
    unsigned char *place, *first;
    grow_some(MC_GROW_SURE - 1);
    place = resize(make(40), 40, 300);
    REQUIRE(!is_growing(place));
    mc_free(place); /* one that had a slot tells nothing */
    grow_some(1);
    place = resize(make(20), 20, MC_GROW_EARLY - 1);
    REQUIRE(!is_growing(place));
    place = first = resize(place, MC_GROW_EARLY - 1, MC_GROW_EARLY + 1);
    REQUIRE(is_growing(place));
    for (size_t size = MC_GROW_EARLY + 1; size < 20000; size += size / 2)
        REQUIRE(resize(place, size, size + size / 2) == first);
    REQUIRE(!is_growing(place));
    mc_free(place);
    place = resize(make(50), 50, 100);
    REQUIRE(is_growing(place)); /* it came far as well, though at one go */
    place = resize(place, 100, 3 * MC_GROW_MIN);
    mc_free(place);
    place = resize(make(50), 50, 100);
    REQUIRE(is_growing(place) && mc_growing_count(mc_self) == 1);
    mc_free(place);
    mc_heap_check();
}

/* Until one is freed before it came far, or shrinks. Those that live are few, and others count nothing. */
static void begins_early_no_more(void)
{
    unsigned char *places[MC_GROWING_EARLY + 1];
    for (unsigned shrinks = 0; shrinks < 2; shrinks++) {
        grow_some(MC_GROW_SURE);
        unsigned char *place = resize(make(50), 50, 200);
        REQUIRE(is_growing(place));
        if (shrinks) place = resize(place, 200, 60);
        mc_free(place);
        place = resize(make(50), 50, 200);
        REQUIRE(!is_growing(place));
        mc_free(place);
    }
    grow_some(MC_GROW_SURE);
    for (unsigned i = 0; i <= MC_GROWING_EARLY; i++) {
        places[i] = resize(make(50), 50, 200);
        REQUIRE(is_growing(places[i]) == (i < MC_GROWING_EARLY));
    }
    mc_heap_check();
    places[MC_GROWING_EARLY] = resize(places[MC_GROWING_EARLY], 200, 600);
    REQUIRE(is_growing(places[MC_GROWING_EARLY]));
    for (unsigned i = 0; i <= MC_GROWING_EARLY; i++) {
        pthread_t thread;
        REQUIRE(!pthread_create(&thread, 0, free_one, places[i]));
        pthread_join(thread, 0);
    }
    REQUIRE(mc_growing_count(mc_self) == 0);
    unsigned char *place = resize(make(50), 50, 200);
    REQUIRE(is_growing(place));
    mc_free(place);
    mc_heap_check();
}

static const struct test_case cases[] = {
    {"growing_in_place", grows_in_place, 0}, {"growing_shrinks", shrinks_to_fit, 0},
    {"growing_counted", are_counted, 0},     {"growing_tagged", are_tagged, 0},
    {"growing_not_plain", not_plain, 0},     {"growing_no_slices", without_slices, 0},
    {"growing_inherited", are_inherited, 0}, {"growing_blocked", not_where_blocked, 0},
    {"growing_early", begins_early, 0},      {"growing_late_again", begins_early_no_more, 0},
    {"growing_threads", in_threads, 480},
};
TEST_MAIN(cases)
