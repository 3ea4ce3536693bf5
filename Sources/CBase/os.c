/* SPDX-License-Identifier: MIT */
/* See os.h. Errors come back as values: syscall(2) sets errno, so it is put back. */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bits.h"

static int call(long result, int saved)
{
    int error = result == -1 ? errno : 0;
    errno = saved;
    return error;
}

static int map(size_t size, int protection, void **out)
{
    int saved = errno;
    long address = syscall(SYS_mmap, 0, size, protection,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int error = call(address, saved);
    if (!error)
        *out = (void *)address;
    return error;
}

int mc_os_reserve(size_t size, void **out)
{
    return map(size, PROT_NONE, out);
}

int mc_os_map(size_t size, void **out)
{
    return map(size, PROT_READ | PROT_WRITE, out);
}

int mc_os_commit(void *start, size_t size)
{
    int saved = errno;
    return call(syscall(SYS_mprotect, start, size, PROT_READ | PROT_WRITE), saved);
}

int mc_os_purge(void *start, size_t size)
{
    int saved = errno;
    return call(syscall(SYS_madvise, start, size, MADV_DONTNEED), saved);
}

int mc_os_release(void *start, size_t size)
{
    int saved = errno;
    return call(syscall(SYS_munmap, start, size), saved);
}

int mc_os_resize(void *start, size_t size, size_t wanted, void **out)
{
    int saved = errno;
    long address = syscall(SYS_mremap, start, size, wanted, MREMAP_MAYMOVE);
    int error = call(address, saved);
    if (!error)
        *out = (void *)address;
    return error;
}

uint64_t mc_os_clock_ms(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t mc_os_random(void)
{
    uint64_t value = 0;
    int saved = errno;
    enum { NONBLOCK = 1 }; /* GRND_NONBLOCK: early in boot there may be none */
    if (syscall(SYS_getrandom, &value, sizeof(value), NONBLOCK) != (long)sizeof(value)) {
        struct timespec now = {0};
        clock_gettime(CLOCK_MONOTONIC, &now);
        value = ((uint64_t)(uintptr_t)&value << 20 ^ (uint64_t)now.tv_nsec) * 0x9e3779b97f4a7c15ull;
    }
    errno = saved;
    return value;
}

/* A page that the kernel zeroes in a forked child: the one thing that also notices a raw clone(2).
 * Until the watch starts, and where the kernel can't do it, the word is in ordinary memory. */
static uint64_t watched_always = 1;
static uint64_t *watched = &watched_always;

int mc_os_forked(void)
{
    return unlikely(!mc_load(mc_load_acquire(&watched)));
}

void mc_os_fork_watch(void)
{
    uint64_t *page = mc_load_acquire(&watched);
    if (page != &watched_always) {
        mc_store(page, 1);
        return;
    }
    void *fresh;
    if (mc_os_map(MC_PAGE, &fresh))
        return;
    int saved = errno;
    int refused = call(syscall(SYS_madvise, fresh, MC_PAGE, MADV_WIPEONFORK), saved);
    page = fresh;
    *page = 1;
    uint64_t *none = &watched_always;
    if (refused || !mc_swap_if(&watched, &none, page))
        mc_os_release(fresh, MC_PAGE);
}
