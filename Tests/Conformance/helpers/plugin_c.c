/* plugin_c: a library that allocates in its constructor, in its destructor and in an exit handler
 * of its own, which runs at dlclose. */
/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *taken[1000], *own;
static int taken_count;
static _Thread_local char big_dynamic_tls[40000];

static void at_unload(void)
{
    free(own);
    own = malloc(77);
}

__attribute__((constructor)) static void construct(void)
{
    own = strdup("made by the constructor");
    big_dynamic_tls[39999] = 1;
    if (!own || atexit(at_unload) != 0) _exit(30);
}

__attribute__((destructor)) static void destruct(void)
{
    for (int i = 0; i < taken_count; i++)
        free(taken[i]);
    free(own);
    own = NULL; /* the exit handler may come after */
    free(calloc(100, 100));
}

/* The pattern of conformance.h with seed 42, so that the program can check it. */
void *plugin_block(void)
{
    char *p = malloc(1000);
    for (size_t at = 0; p && at < 1000; at += 8) {
        uint64_t x = (at / 8 + 1) * 0x9E3779B97F4A7C15u ^ 43 * 0xD1B54A32D192ED03u;
        x ^= x >> 29;
        memcpy(p + at, &x, 8);
    }
    return p;
}

void plugin_take(void *p)
{
    int at = __atomic_fetch_add(&taken_count, 1, __ATOMIC_RELAXED);
    if (at >= 1000) _exit(31);
    taken[at] = p;
}

void plugin_self_test(void)
{
    void *p[200];
    for (size_t i = 0; i < 200; i++)
        p[i] = malloc(i * 50);
    for (int i = 0; i < 200; i++)
        free(realloc(p[i], 300));
}
