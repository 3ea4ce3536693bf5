/* SPDX-License-Identifier: MIT */
/* Threads with PTHREAD_STACK_MIN bytes of stack allocate and free; no guard page may be hit. */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

static void *work(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < 2000; i++) {
        void *volatile object = malloc(i % 3000);
        void *volatile other = realloc(object, i % 5000 + 1);
        free(other);
    }
    return 0;
}

int main(void)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) || pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN))
        return 1;
    for (unsigned i = 0; i < 50; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, work, 0) || pthread_join(thread, 0)) return 2;
    }
    return 0;
}
