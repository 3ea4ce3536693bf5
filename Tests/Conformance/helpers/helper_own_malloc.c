/* helper_own_malloc: defines the four functions glibc's manual (3.2.5, Replacing malloc) says a
 * program must define, over an array of its own. A preloaded heap comes after the program in the
 * search order and must not disturb this, nor what libc allocates through it. */
/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POOL = 32 << 20 };
static _Alignas(16) char pool[POOL];
static size_t used;

/* Each block is preceded by its size. Nothing is used again. */
void *malloc(size_t size)
{
    size_t whole = (size + 31) & ~(size_t)15;
    size_t at = __atomic_fetch_add(&used, whole, __ATOMIC_RELAXED);
    if (whole < size || at + whole > POOL) return NULL;
    memcpy(pool + at, &size, sizeof size);
    return pool + at + 16;
}

static size_t size_of(void *p)
{
    size_t size;
    if ((char *)p < pool || (char *)p >= pool + POOL) _exit(20);
    memcpy(&size, (char *)p - 16, sizeof size);
    return size;
}

void free(void *p)
{
    if (p) (void)size_of(p);
}

void *calloc(size_t count, size_t size)
{
    return malloc(count * size);
}

void *realloc(void *p, size_t size)
{
    void *moved = malloc(size);
    if (p && moved) memcpy(moved, p, size_of(p) < size ? size_of(p) : size);
    return moved;
}

static void *in_thread(void *unused)
{
    free(strdup("text"));
    return unused;
}

int main(void)
{
    char *line = NULL;
    size_t size = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    if (!f) return 1;
    while (getline(&line, &size, f) > 0)
        continue;
    (void)size_of(line);
    free(line);
    fclose(f);
    DIR *directory = opendir("/");
    if (!directory || !readdir(directory) || closedir(directory) != 0) return 2;
    pthread_t thread;
    for (int i = 0; i < 20; i++) {
        if (pthread_create(&thread, NULL, in_thread, NULL) != 0) return 3;
        pthread_join(thread, NULL);
    }
    return setenv("A", "b", 1);
}
