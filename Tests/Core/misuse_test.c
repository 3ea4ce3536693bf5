/* SPDX-License-Identifier: MIT */
/* Misuse is a panic: one line that says what, and SIGABRT. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "heap.h"
#include "limits.h"
#include "test.h"

/* The call must end in SIGABRT and say `wanted` in a line of its own with the address. */
static void dies(void (*function)(void *), void *argument, const char *wanted)
{
    char text[4096], line[256];
    int status = test_in_child(function, argument, text, sizeof(text));
    snprintf(line, sizeof(line), "memctl: %s: 0x%llx\n", wanted, (unsigned long long)argument);
    REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    if (!strstr(text, line)) {
        fprintf(stderr, "wanted %sfound %s", line, text);
        REQUIRE(!"the message");
    }
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
    mc_realloc_in_place(place, 10);
}

static void call_usable(void *place)
{
    mc_usable_size(place, "malloc_usable_size()");
}

/* `what` as every call says it. */
static void dies_everywhere(void *place, const char *what)
{
    char line[128];
    snprintf(line, sizeof(line), "free(): %s", what);
    dies(call_free, place, line);
    dies(call_free_remote, place, line);
    snprintf(line, sizeof(line), "realloc(): %s", what);
    dies(call_realloc, place, line);
    snprintf(line, sizeof(line), "malloc_usable_size(): %s", what);
    dies(call_usable, place, line);
}

static const char nothing[] = "invalid pointer or double free: no object is there";
static const char inside[] = "invalid pointer: inside an object, not at its start";

static void wild_pointers(void)
{
    static char data[64];
    char stack[64];
    char *mapped = mmap(0, MC_SLICE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mc_free(mc_alloc(10));
    dies_everywhere(data, nothing);
    dies_everywhere(stack, nothing);
    dies_everywhere(mapped, nothing);
    dies_everywhere((void *)8, nothing);
    dies_everywhere((void *)(1ull << 47), nothing);
    dies_everywhere((void *)UINT64_MAX, nothing);
    dies_everywhere((void *)0xdeadbeefdeadbeef, nothing);
}

/* Before the first allocation there is no thread, no span, nothing. */
static void first_call(void)
{
    dies(call_free, (void *)&test_main, "free(): invalid pointer or double free: no object is there");
    mc_free(0);
}

static void inner_pointers(void)
{
    static const size_t sizes[] = {1, 16, 24, 100, 1000, 5000, 32768, 40000, 1 << 20, 20 << 20};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        char *place = mc_alloc(sizes[i]);
        size_t usable = mc_usable_size(place, "");
        dies_everywhere(place + 1, inside);
        dies_everywhere(place + 8, inside);
        dies_everywhere(place + (usable / 2 / 16 * 16 ? usable / 2 / 16 * 16 : 4), inside);
        dies_everywhere(place + usable - 1, usable > 2 * MC_SLICE ? nothing : inside);
        mc_free(place);
    }
}

static void never_allocated(void)
{
    char *place = mc_alloc(1000);
    dies_everywhere(place + 20 * mc_usable_size(place, ""), "invalid pointer: never allocated");
}

static void double_frees(void)
{
    for (size_t size = 0; size <= MC_SMALL_MAX; size += size < 200 ? 8 : size / 4) {
        char *keeps = mc_alloc(size), *place = mc_alloc(size), *other = mc_alloc(size);
        memset(place, 0x55, mc_usable_size(place, ""));
        mc_free(place);
        dies_everywhere(place, "double free");
        mc_free(other); /* with another free in between */
        dies_everywhere(place, "double free");
        mc_free(keeps);
    }
}

/* The first free was another thread's, and waits for the owner. */
static void double_free_remote(void)
{
    char *keeps = mc_alloc(40), *place = mc_alloc(40), *other = mc_alloc(40);
    call_free_remote(place);
    call_free_remote(other);
    dies_everywhere(place, "double free");
    dies_everywhere(other, "double free");
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

static void double_free_large(void)
{
    static const size_t sizes[] = {40000, 1 << 20, 20 << 20};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        char *place = mc_alloc(sizes[i]);
        mc_free(place);
        dies_everywhere(place, nothing);
    }
}

/* Of a span that is no more. */
static void free_after_trim(void)
{
    char *place = mc_alloc(3000);
    mc_free(place);
    mc_heap_trim();
    dies_everywhere(place, nothing);
}

static const struct test_case cases[] = {
    {"misuse_first_call", first_call, 0},
    {"misuse_wild_pointers", wild_pointers, 0},
    {"misuse_inner_pointers", inner_pointers, 0},
    {"misuse_never_allocated", never_allocated, 0},
    {"misuse_double_frees", double_frees, 0},
    {"misuse_double_free_remote", double_free_remote, 0},
    {"misuse_looks_free", looks_free, 0},
    {"misuse_double_free_large", double_free_large, 0},
    {"misuse_free_after_trim", free_after_trim, 0},
};
TEST_MAIN(cases)
