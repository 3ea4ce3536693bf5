/* helper_allocate MEGABYTES: allocates that much in blocks of many sizes, in two threads, frees
 * it, and ends with 0. Prints nothing. */
/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void *allocate(void *megabytes)
{
    size_t left = (size_t)megabytes << 20, size = 16;
    void **list = NULL;
    while (left > size) {
        void **p = malloc(size);
        if (!p) return "failed";
        memset(p, 1, size);
        *p = list;
        list = p;
        left -= size;
        size = size > 100000 ? 16 : size + size / 8 + 1;
    }
    while (list) {
        void **next = *list;
        free(list);
        list = next;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    pthread_attr_t attributes;
    void *failed = NULL, *size = (void *)strtoul(argc > 1 ? argv[1] : "1", NULL, 10);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    if (allocate(size)) return 1;
    if (pthread_create(&thread, &attributes, allocate, size) != 0) return 2;
    if (pthread_join(thread, &failed) != 0 || failed) return 3;
    return 0;
}
