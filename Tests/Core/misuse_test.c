/* SPDX-License-Identifier: MIT */
/* Misuse is a panic: one line that says what, and SIGABRT. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "heap.h"
#include "hooks.h"
#include "limits.h"
#include "test.h"

/* The call must end in SIGABRT and say `call: what` in one line, which ends with the address. */
static void dies_saying(void (*function)(void *), void *argument, const char *call,
                        const char *what)
{
    char text[4096], start[64], address[64];
    int status = test_in_child(function, argument, text, sizeof(text));
    snprintf(start, sizeof(start), "memctl: %s: ", call);
    snprintf(address, sizeof(address), ": 0x%llx\n", (unsigned long long)argument);
    const char *line = strstr(text, start), *end = line ? strstr(line, address) : 0;
    const char *found = line ? strstr(line, what) : 0;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && end && found && found < end &&
        strchr(line, '\n') == end + strlen(address) - 1)
        return;
    fprintf(stderr, "%s... %s%sfound status %d, %s", start, what, address, status, text);
    REQUIRE(!"the message and SIGABRT");
}

static void call_free(void *place)
{
    mc_free(place);
}

static void *free_it(void *place)
{
    mc_free(place);
    return 0;
}

/* By another thread than the owner. */
static void call_free_remote(void *place)
{
    pthread_t thread;
    pthread_create(&thread, 0, free_it, place);
    pthread_join(thread, 0);
}

static void call_realloc(void *place)
{
    if (!mc_realloc_short(place, 10)) mc_realloc_in_place(place, 10);
}

static void call_usable(void *place)
{
    mc_usable_size(place, "malloc_usable_size()");
}

/* Every call dies, and says so. */
static void dies(void *place, const char *what)
{
    dies_saying(call_free, place, "free()", what);
    dies_saying(call_free_remote, place, "free()", what);
    dies_saying(call_realloc, place, "realloc()", what);
    dies_saying(call_usable, place, "malloc_usable_size()", what);
}

static const char nothing[] = "invalid pointer or double free: no object is there";
static const char inside[] = "invalid pointer: inside an object, not at its start";

static void wild_pointers(void)
{
    static char data[64];
    char stack[64];
    char *mapped = mmap(0, MC_SLICE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mc_free(mc_alloc(10));
    dies(data, nothing);
    dies(stack, nothing);
    dies(mapped, nothing);
    dies((void *)8, nothing);
    dies((void *)(1ull << 47), nothing);
    dies((void *)UINT64_MAX, nothing);
    dies((void *)0xdeadbeefdeadbeef, nothing);
}

/* Before the first allocation there is no thread, no span, nothing. */
static void first_call(void)
{
    static char data[64];
    dies(data, nothing);
    mc_free(0);
}

static void inner_pointers(void)
{
    static const size_t sizes[] = {1, 16, 24, 100, 1000, 5000, 32768, 40000, 1 << 20, 20 << 20};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        char *place = mc_alloc(sizes[i]);
        size_t usable = mc_usable_size(place, "");
        dies(place + 1, inside);
        dies(place + 8, inside);
        dies(place + (usable >= 32 ? usable / 2 / 16 * 16 : 4),
             usable > MC_SMALL_MAX ? "invalid pointer" : inside);
        dies(place + usable - 1, usable > MC_SMALL_MAX ? "invalid pointer" : inside);
        mc_free(place);
    }
}

static void never_allocated(void)
{
    char *place = mc_alloc(1000);
    dies(place + 20 * mc_usable_size(place, ""), "invalid pointer: never allocated");
}

static void double_frees(void)
{
    for (size_t size = 0; size <= MC_SMALL_MAX; size += size < 200 ? 8 : size / 4) {
        char *keeps = mc_alloc(size), *place = mc_alloc(size), *other = mc_alloc(size);
        memset(place, 0x55, mc_usable_size(place, ""));
        mc_free(place);
        dies(place, "double free");
        mc_free(other); /* with another free in between */
        dies(place, "double free");
        mc_free(keeps);
    }
}

/* Threads with a cache of their own, which the slot is in after the first free. */
static void *free_twice(void *place)
{
    mc_free(mc_alloc(10));
    mc_free(place);
    mc_free(place);
    return 0;
}

static void call_free_twice(void *place)
{
    pthread_t thread;
    pthread_create(&thread, 0, free_twice, place);
    pthread_join(thread, 0);
}

static pthread_barrier_t cached;

static void *free_and_wait(void *place)
{
    mc_free(mc_alloc(10));
    mc_free(place);
    pthread_barrier_wait(&cached); /* it is in the cache */
    pthread_barrier_wait(&cached); /* that was looked at */
    return 0;
}

static void double_free_cached(void)
{
    pthread_t thread;
    struct mc_heap_totals before, after;
    void *place = mc_alloc(100), *other = mc_alloc(100);
    dies_saying(call_free_twice, place, "free()", "double free");
    mc_heap_totals(&before);
    REQUIRE(!pthread_barrier_init(&cached, 0, 2));
    REQUIRE(!pthread_create(&thread, 0, free_and_wait, place));
    pthread_barrier_wait(&cached);
    mc_heap_check();
    mc_heap_totals(&after);
    REQUIRE_EQUAL(after.used_slots, before.used_slots - 1);
    dies(place, "double free");
    pthread_barrier_wait(&cached);
    pthread_join(thread, 0);
    mc_free(other);
}

/* The first free was another thread's, and waits for the owner. */
static void double_free_remote(void)
{
    char *keeps = mc_alloc(40), *place = mc_alloc(40), *other = mc_alloc(40);
    call_free_remote(place);
    call_free_remote(other);
    dies(place, "double free");
    dies(other, "double free");
    mc_free(keeps);
}

/* A slot that looks free to the eye, its content being what free slots hold, is not. */
static void looks_free(void)
{
    uint64_t *first = mc_alloc(64), *second = mc_alloc(64), copy[8];
    mc_free(second);
    memcpy(copy, second, sizeof(copy));
    second = mc_alloc(64);
    memcpy(first, copy, sizeof(copy));
    memcpy(second, copy, sizeof(copy));
    mc_free(first);
    mc_free(second);
    mc_heap_check();
}

/* Two threads free one at once, and neither sees the other: then it would serve two requests. */
static void free_at_once(void *place)
{
    struct mc_span *span = mc_span_of(place);
    mc_free(place);
    mc_store(&span->state, MC_SPAN_LARGE);
    mc_free(place);
    mc_alloc(1 << 20);
    mc_alloc(1 << 20);
}

static void double_free_at_once(void)
{
    dies_saying(free_at_once, mc_alloc(1 << 20), "free()", "double free");
}

static void double_free_large(void)
{
    static const size_t sizes[] = {40000, 1 << 20, 20 << 20};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        char *place = mc_alloc(sizes[i]);
        mc_free(place);
        dies(place, "double free");
    }
}

/* Of a span that is no more. */
static void free_after_trim(void)
{
    char *place = mc_alloc(3000);
    mc_free(place);
    mc_heap_trim();
    dies(place, nothing);
}

/* Pages inside a span went back: what lay there is still known to be free. */
static void double_free_trimmed(void)
{
    enum { COUNT = 1000 };
    static char *places[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        places[i] = mc_alloc(500);
    for (unsigned i = 1; i < COUNT; i++)
        if (i % 50) mc_free(places[i]);
    mc_heap_trim();
    mc_heap_check();
    for (unsigned i = 1; i < COUNT; i += 77)
        dies(places[i], "double free");
}

enum { WHOLE = 4000 };
static char *whole[WHOLE];

static void *free_whole(void *unused)
{
    for (unsigned i = 0; i < WHOLE; i++)
        mc_free(whole[i]);
    mc_heap_trim();
    return unused;
}

/* Whole spans went back, whose owner has not looked since (waiting.h). */
static void double_free_waiting(void)
{
    pthread_t thread;
    for (unsigned i = 0; i < WHOLE; i++)
        whole[i] = mc_alloc(500);
    REQUIRE(!pthread_create(&thread, 0, free_whole, 0));
    pthread_join(thread, 0);
    REQUIRE_EQUAL(mc_span_of(whole[0])->remote, MC_REMOTE_GONE);
    for (unsigned i = 0; i < WHOLE / 2; i += 277)
        dies(whole[i], "double free");
}

/* -- with tags, whose frees take a path of their own ---------------------------------------- */

static uint64_t tags_off; /* that frees took off */

static void tag_off(void *place, size_t usable, size_t requested, uint64_t tag)
{
    (void)place, (void)usable, (void)requested;
    tags_off += tag;
}

static void *tagged_alloc(size_t size)
{
    void *place = mc_alloc_owned(size, MC_QUANTUM, 0);
    REQUIRE(place && mc_tag_set(place, size, 1));
    return place;
}

static void tagged_inner_pointers(char *place, size_t size)
{
    size_t usable = mc_usable_size(place, "");
    const char *what = size > MC_SMALL_MAX ? "invalid pointer" : inside;
    dies(place + 1, what);
    dies(place + 8, what);
    if (usable > MC_QUANTUM) dies(place + MC_QUANTUM, what);
    dies(place + usable - 1, what);
}

/* Objects beside it that have tags, or none; by the owner and by others. */
static void tagged_frees(void)
{
    static const size_t sizes[] = {0, 16, 24, 100, 256, 1000, 1024, 1025, 5000, 40000, 200000};
    on_tagged_free = tag_off;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        char *keeps = tagged_alloc(sizes[i]), *place = tagged_alloc(sizes[i]),
             *other = tagged_alloc(sizes[i]), *plain = mc_alloc(sizes[i]);
        memset(place, 0x55, mc_usable_size(place, ""));
        tagged_inner_pointers(place, sizes[i]);
        tagged_inner_pointers(plain, sizes[i]);
        tags_off = 0;
        mc_free(place);
        REQUIRE_EQUAL(tags_off, 1);
        dies(place, "double free");
        mc_free(plain);
        REQUIRE_EQUAL(tags_off, 1);
        dies(plain, "double free");
        call_free_remote(other);
        REQUIRE_EQUAL(tags_off, 2);
        dies(other, "double free");
        dies(place, "double free");
        mc_free(keeps);
        REQUIRE_EQUAL(tags_off, 3);
    }
    mc_heap_check();
}

static void tagged_never_allocated(void)
{
    char *place = tagged_alloc(1000);
    dies(place + 20 * mc_usable_size(place, ""), "invalid pointer: never allocated");
}

/* Slots at hand with tags, until there are none; each freed again, in another order. */
static void tagged_at_hand(void)
{
    enum { COUNT = 1000 };
    static void *places[COUNT];
    struct mc_tagged tagged;
    on_tagged_free = tag_off;
    REQUIRE(!mc_alloc_tagged(100, &tagged)); /* no thread yet */
    mc_free(tagged_alloc(100));
    unsigned count = 0;
    while (count < COUNT && (places[count] = mc_alloc_tagged(100, &tagged))) {
        REQUIRE(tagged.usable >= 100 && !tagged.large && !*tagged.place);
        mc_tag_finish(&tagged, 100, ++count);
    }
    REQUIRE(count > 0 && count < COUNT);
    mc_heap_check();
    tags_off = 0;
    for (unsigned i = 0; i < count; i++)
        mc_free(places[i % 2 ? i / 2 : count - 1 - i / 2]);
    REQUIRE_EQUAL(tags_off, (uint64_t)count * (count + 1) / 2);
    mc_heap_check();
}

static const struct test_case cases[] = {
    {"misuse_first_call", first_call, 0},
    {"misuse_wild_pointers", wild_pointers, 0},
    {"misuse_inner_pointers", inner_pointers, 0},
    {"misuse_never_allocated", never_allocated, 0},
    {"misuse_double_frees", double_frees, 0},
    {"misuse_double_free_remote", double_free_remote, 0},
    {"misuse_double_free_cached", double_free_cached, 0},
    {"misuse_looks_free", looks_free, 0},
    {"misuse_double_free_large", double_free_large, 0},
    {"misuse_double_free_at_once", double_free_at_once, 0},
    {"misuse_free_after_trim", free_after_trim, 0},
    {"misuse_double_free_trimmed", double_free_trimmed, 0},
    {"misuse_double_free_waiting", double_free_waiting, 0},
    {"misuse_tagged_frees", tagged_frees, 0},
    {"misuse_tagged_never_allocated", tagged_never_allocated, 0},
    {"misuse_tagged_at_hand", tagged_at_hand, 0},
};
TEST_MAIN(cases)
