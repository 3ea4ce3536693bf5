/* helper_descriptors: 0 if descriptors above 2 are closed at the start and stay so while the heap
 * is used, also by a thread. To be started with none of them open. */
/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

static void *use_the_heap(void *unused)
{
    for (size_t n = 1; n <= (size_t)64 << 20; n *= 2) {
        char *p = malloc(n), *q = memalign(4096, n);
        if (!p || !q) exit(3);
        p[0] = q[n - 1] = 1;
        free(realloc(p, n * 2));
        free(q);
    }
    malloc_trim(0);
    return unused;
}

static int is_clean(void)
{
    for (int fd = 3; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0) return 0;
    return open("/dev/null", O_RDONLY) == 3 && fcntl(3, F_GETFD) == 0;
}

int main(void)
{
    pthread_t thread;
    if (!is_clean()) return 1;
    fcntl(3, F_SETFD, FD_CLOEXEC);
    use_the_heap(NULL);
    pthread_create(&thread, NULL, use_the_heap, NULL);
    pthread_join(thread, NULL);
    for (int fd = 4; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0) return 2;
    return 0;
}
