/* helper_interpose: defines functions of libc that a heap may call, as sandboxes, fault injectors
 * and tracers do, each of which allocates before it does the work by the system call. glibc's heap
 * calls none of them by name. A heap that does is re-entered, possibly with a lock held. */
/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* volatile: libc's headers promise (leaf) that malloc calls nothing of this file. */
static _Thread_local volatile int depth;

/* Allocates like a wrapper that resolves the real function at its first call. One level deep: a
 * wrapper that is called by the heap it calls could never end. */
static void allocate(void)
{
    if (depth > 0) return;
    depth = 1;
    int saved = errno;
    void *p = malloc(300), *q = calloc(10, 3000);
    free(p);
    free(q);
    errno = saved;
    depth = 0;
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    allocate();
    return (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
}

int munmap(void *address, size_t size)
{
    allocate();
    return (int)syscall(SYS_munmap, address, size);
}

void *mremap(void *address, size_t old, size_t size, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    void *target = flags & MREMAP_FIXED ? va_arg(arguments, void *) : NULL;
    va_end(arguments);
    allocate();
    return (void *)syscall(SYS_mremap, address, old, size, flags, target);
}

int mprotect(void *address, size_t size, int protection)
{
    allocate();
    return (int)syscall(SYS_mprotect, address, size, protection);
}

int madvise(void *address, size_t size, int advice)
{
    allocate();
    return (int)syscall(SYS_madvise, address, size, advice);
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, int) : 0;
    va_end(arguments);
    allocate();
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int close(int fd)
{
    allocate();
    return (int)syscall(SYS_close, fd);
}

ssize_t read(int fd, void *buffer, size_t size)
{
    allocate();
    return syscall(SYS_read, fd, buffer, size);
}

ssize_t write(int fd, const void *buffer, size_t size)
{
    allocate();
    return syscall(SYS_write, fd, buffer, size);
}

char *getenv(const char *name)
{
    size_t length = strlen(name);
    allocate();
    for (char **variable = environ; variable && *variable; variable++)
        if (strncmp(*variable, name, length) == 0 && (*variable)[length] == '=')
            return *variable + length + 1;
    return NULL;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    allocate();
    return (int)syscall(SYS_clock_gettime, clock, now);
}

int sched_yield(void)
{
    allocate();
    return (int)syscall(SYS_sched_yield);
}

static void *churn(void *unused)
{
    void *p[100] = {0};
    for (unsigned i = 0; i < 100000; i++) {
        free(p[i % 100]);
        p[i % 100] = malloc(i % 1000 ? i % 3000 : i * 30u);
        if (!p[i % 100]) _exit(1);
    }
    for (int i = 0; i < 100; i++)
        free(p[i]);
    for (size_t n = 100000; n < 100u << 20; n *= 3)
        free(realloc(malloc(n), 2 * n));
    malloc_trim(0);
    return unused;
}

int main(void)
{
    pthread_t thread[3];
    for (int i = 0; i < 3; i++)
        if (pthread_create(&thread[i], NULL, churn, NULL) != 0) return 2;
    churn(NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    return 0;
}
