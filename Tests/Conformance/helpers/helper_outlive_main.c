/* helper_outlive_main: threads started before and in main; main returns while threads allocate and free, and goes on allocating in
 * exit handlers and destructors. */
/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *churn(void *unused)
{
    void *p[50] = {0};
    for (unsigned i = 0;; i++) {
        free(p[i % 50]);
        p[i % 50] = malloc(i * 37 % 5000);
        if (!p[i % 50]) _exit(1);
        memset(p[i % 50], 1, i * 37 % 5000);
    }
    return unused;
}

static void use_the_heap(void)
{
    for (unsigned i = 0; i < 3000; i++)
        free(malloc(i));
}

/* A thread that runs while the loader still constructs others. */
__attribute__((constructor)) static void construct(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, churn, NULL) != 0) _exit(3);
    use_the_heap();
}

__attribute__((destructor)) static void destruct(void)
{
    use_the_heap();
}

int main(void)
{
    pthread_t thread;
    for (int i = 0; i < 3; i++)
        if (pthread_create(&thread, NULL, churn, NULL) != 0) return 2;
    atexit(use_the_heap);
    use_the_heap();
    return 0;
}
