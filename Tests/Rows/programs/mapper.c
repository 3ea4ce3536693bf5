/* SPDX-License-Identifier: MIT */
/* A program that maps and unmaps as it is told, and one of many threads; see commands.h.
 *
 *     map COUNT PAGES      unmap COUNT PAGES      grow COUNT PAGES
 *                          by mmap(2), munmap(2) and mremap(2), which doubles those of PAGES
 *     hole FIRST PAGES     unmaps pages of the oldest one
 *     cover PAGES          maps over the first pages of the oldest one, at another site
 *     fork IN OUT          the child takes commands from these files
 *     crowd COUNT SIZE     COUNT threads that live at once, each with an object
 *     disperse             they free theirs and end */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>

#include "commands.h"

enum { PAGE = 4096, MAPPINGS = 1 << 16 };
static void **mappings; /* mapped */
static size_t mapping_count, first_mapping;

SITE static void *site_map(void *wanted, size_t size)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (wanted ? MAP_FIXED : 0);
    void *volatile memory = mmap(wanted, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) _exit(3);
    return memory;
}

SITE static void *site_cover(void *wanted, size_t size)
{
    void *volatile memory = site_map(wanted, size);
    return memory;
}

SITE static void *site_grow(void *old, size_t size)
{
    void *volatile memory = mremap(old, size, 2 * size, MREMAP_MAYMOVE);
    if (memory == MAP_FAILED) _exit(3);
    return memory;
}

static void map_more(size_t count, size_t pages)
{
    for (size_t i = 0; i < count && mapping_count < MAPPINGS; i++)
        mappings[mapping_count++] = site_map(0, pages * PAGE);
}

static void unmap_first(size_t count, size_t pages)
{
    for (size_t i = 0; i < count; i++)
        munmap(mappings[first_mapping++], pages * PAGE);
}

static void grow_first(size_t count, size_t pages)
{
    for (size_t i = first_mapping; i < first_mapping + count; i++)
        mappings[i] = site_grow(mappings[i], pages * PAGE);
}

/* --- a crowd --------------------------------------------------------------------------------- */

static struct {
    pthread_t *threads; /* mapped */
    size_t count, size, there;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int over;
} crowd = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

SITE static void *stand_in_crowd(void *argument)
{
    (void)argument;
    void *volatile object = malloc(crowd.size);
    pthread_mutex_lock(&crowd.lock);
    crowd.there++;
    pthread_cond_broadcast(&crowd.changed);
    while (!crowd.over)
        pthread_cond_wait(&crowd.changed, &crowd.lock);
    pthread_mutex_unlock(&crowd.lock);
    free(object);
    return 0;
}

/* Returns how many there are: fewer where the machine allows no more. */
static size_t gather(size_t count, size_t size)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    crowd.threads = map(count * sizeof(pthread_t));
    crowd.size = size;
    while (crowd.count < count &&
           !pthread_create(&crowd.threads[crowd.count], &attributes, stand_in_crowd, 0))
        crowd.count++;
    pthread_mutex_lock(&crowd.lock);
    while (crowd.there < crowd.count)
        pthread_cond_wait(&crowd.changed, &crowd.lock);
    pthread_mutex_unlock(&crowd.lock);
    return crowd.count;
}

static void disperse(void)
{
    pthread_mutex_lock(&crowd.lock);
    crowd.over = 1;
    pthread_cond_broadcast(&crowd.changed);
    pthread_mutex_unlock(&crowd.lock);
    while (crowd.count)
        pthread_join(crowd.threads[--crowd.count], 0);
}

static void obey(char *words[4])
{
    const char *what = words[0];
    if (!strcmp(what, "fork")) {
        begin_child(words[1], words[2]);
        return;
    }
    size_t first = words[1] ? strtoul(words[1], 0, 10) : 0;
    size_t second = words[2] ? strtoul(words[2], 0, 10) : 0;
    char *oldest = mappings[first_mapping];
    if (!strcmp(what, "map"))
        map_more(first, second);
    else if (!strcmp(what, "unmap"))
        unmap_first(first, second);
    else if (!strcmp(what, "grow"))
        grow_first(first, second);
    else if (!strcmp(what, "hole"))
        munmap(oldest + first * PAGE, second * PAGE);
    else if (!strcmp(what, "cover"))
        site_cover(oldest, first * PAGE);
    else if (!strcmp(what, "disperse"))
        disperse();
    else if (strcmp(what, "crowd"))
        _exit(4);
    say_number("done", !strcmp(what, "crowd") ? (long)gather(first, second) : 0);
}

int main(void)
{
    mappings = map(MAPPINGS * sizeof(void *));
    return obey_all(obey);
}
