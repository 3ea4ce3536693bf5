/* helper_order: uses the heap at every station of a process, from preinit_array to destructors,
 * and hands blocks from each to the next. Prints the stations it passed. */
/* SPDX-License-Identifier: MIT */
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *handed; /* from one station to the next */
static void *from_resolver;
static pthread_key_t key;

/* Frees what the station before allocated, allocates for the next. */
static void pass(const char *station)
{
    if (handed && strcmp(handed, "a block of the station before") != 0) _exit(10);
    free(handed);
    handed = strdup("a block of the station before");
    void *aligned = memalign(64, 1000), *zero = calloc(10, 100);
    if (!handed || !aligned || !zero || ((char *)zero)[999]) _exit(11);
    handed = realloc(handed, 3000);
    if (!handed) _exit(12);
    free(aligned);
    free(zero);
    if (write(1, station, strlen(station)) < 0) _exit(13);
}

static void preinit(int argc, char **argv, char **environment)
{
    (void)argc, (void)argv, (void)environment;
    pass("preinit");
}
__attribute__((section(".preinit_array"),
               used)) static void (*const preinits[])(int, char **, char **) = {preinit};

static int resolved(void)
{
    return 7;
}

/* Lazy binding: runs at the first call, in the loader's hands. */
static int (*resolve_lazily(void))(void)
{
    return resolved;
}
int lazily(void) __attribute__((ifunc("resolve_lazily")));

__attribute__((constructor(101))) static void construct(void)
{
    pass(" constructor");
}

static void end_key(void *p)
{
    free(p);
    pass(" key");
}

static void *set_key(void *unused)
{
    pthread_setspecific(key, malloc(100));
    return unused;
}

static void at_exit(void)
{
    pass(" atexit");
}

__attribute__((destructor(101))) static void destruct(void)
{
    pass(" destructor\n");
    free(handed);
    free(from_resolver);
}

int main(void)
{
    pthread_t thread;
    if (lazily() != 7) return 1;
    pass(" main");
    if (pthread_key_create(&key, end_key) != 0) return 2;
    if (atexit(at_exit) != 0) return 3;
    if (pthread_create(&thread, NULL, set_key, NULL) != 0) return 4;
    pthread_join(thread, NULL);
    from_resolver = malloc(10);
    return 0;
}
