/* SPDX-License-Identifier: MIT */
/* See os.h. */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>

#include "bits.h"
#include "calls.h"
#include "syscall.h"
#include "vdso.h"

static int error_of(long result)
{
    return mc_syscall_failed(result) ? (int)-result : 0;
}

static int map(size_t size, int protection, void **out)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (!mc_call_allowed(MC_CALL_MAP)) return ENOMEM;
    long address = MC_SYSCALL_6(SYS_mmap, 0, size, protection, flags, -1, 0);
    if (!mc_syscall_failed(address)) *out = (void *)address;
    return error_of(address);
}

int mc_os_reserve(size_t size, void **out, int *usable)
{
    int whole = !mc_call_allowed(MC_CALL_RESERVE | MC_CALL_COMMIT);
    int error = map(size, whole ? PROT_READ | PROT_WRITE : PROT_NONE, out);
    if (!error) *usable = whole;
    return error;
}

int mc_os_map(size_t size, void **out)
{
    return map(size, PROT_READ | PROT_WRITE, out);
}

int mc_os_commit(void *start, size_t size)
{
    if (!mc_call_begin(MC_CALL_COMMIT)) return EPERM;
    long result = MC_SYSCALL_3(SYS_mprotect, start, size, PROT_READ | PROT_WRITE);
    mc_call_end();
    return error_of(result);
}

int mc_os_replace(void *start, size_t size)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    if (!mc_call_begin(MC_CALL_REPLACE)) return EPERM;
    long result = MC_SYSCALL_6(SYS_mmap, start, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    mc_call_end();
    return error_of(result);
}

int mc_os_purge(void *start, size_t size)
{
    /* Each mapping is one of 65,530 that a process may have: small pieces are not worth one. */
    enum { LEAST_REPLACED = 64 << 10 };
    if (!mc_call_begin(MC_CALL_PURGE))
        return size < LEAST_REPLACED ? EPERM : mc_os_replace(start, size);
    long result = MC_SYSCALL_3(SYS_madvise, start, size, MADV_DONTNEED);
    mc_call_end();
    return error_of(result);
}

int mc_os_huge_pages(void *start, size_t size, int wanted)
{
    int advice = wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
    if (!mc_call_begin(MC_CALL_HUGE_PAGES)) return EPERM;
    long result = MC_SYSCALL_3(SYS_madvise, start, size, advice);
    mc_call_end();
    return error_of(result);
}

int mc_os_populate(void *start, size_t size)
{
    enum { POPULATE_WRITE = 23 }; /* MADV_POPULATE_WRITE, of Linux 5.14 */
    if (!mc_call_begin(MC_CALL_POPULATE)) return EPERM;
    long result = MC_SYSCALL_3(SYS_madvise, start, size, POPULATE_WRITE);
    mc_call_end();
    return error_of(result);
}

int mc_os_release(void *start, size_t size)
{
    if (!mc_call_allowed(MC_CALL_RELEASE)) return EPERM;
    return error_of(MC_SYSCALL_2(SYS_munmap, start, size));
}

int mc_os_resize(void *start, size_t size, size_t wanted, void **out)
{
    if (!mc_call_begin(MC_CALL_RESIZE)) return EPERM;
    long address = MC_SYSCALL_4(SYS_mremap, start, size, wanted, MREMAP_MAYMOVE);
    mc_call_end();
    if (!mc_syscall_failed(address)) *out = (void *)address;
    return error_of(address);
}

uint64_t mc_os_clock_ms(void)
{
    struct timespec now = {0};
    mc_clock(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t mc_os_random(void)
{
    /* 16 bytes the kernel gives every program. libc makes its guards of them, so they must not be
     * told from what we return: the halves are multiplied and folded, which can't be undone. */
    const unsigned char *bytes = (const unsigned char *)getauxval(AT_RANDOM);
    uint64_t halves[2] = {0, 0};
    for (unsigned i = 0; bytes && i < 16; i++)
        halves[i / 8] = halves[i / 8] << 8 | bytes[i];
    struct timespec now = {0};
    mc_clock(CLOCK_MONOTONIC, &now);
    halves[0] ^= (uint64_t)now.tv_nsec << 32;
    halves[1] ^= (uint64_t)(uintptr_t)&now;
    unsigned __int128 product = (unsigned __int128)halves[0] * (halves[1] | 1);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* A page that the kernel zeroes in a forked child: the one thing that also notices a raw clone(2).
 * Until the watch starts, and where the kernel can't do it, the words are in ordinary memory. */
struct watch {
    uint64_t same; /* 0: forked, and mc_os_fork_done() not called yet */
    uint64_t generation;
    uint64_t steps[MC_FORK_STEPS]; /* 0: forked, and not taken yet */
    uint64_t pid;                  /* 0: not asked for yet */
};
static struct watch watch_nothing = {1, 1, {1, 1}, 0};
static struct watch *watch = &watch_nothing;

static struct watch *page(void)
{
    return mc_load_acquire(&watch);
}

int mc_os_forked(void)
{
    return unlikely(!mc_load(&page()->same));
}

void mc_os_fork_done(void)
{
    mc_store_release(&page()->same, 1);
}

int mc_os_fork_first(unsigned step)
{
    uint64_t no = 0;
    return mc_swap_if(&page()->steps[step], &no, 1);
}

uint64_t mc_os_fork_generation(void)
{
    return mc_load(&page()->generation);
}

void mc_os_fork_set_generation(uint64_t generation)
{
    mc_store(&page()->generation, generation);
}

void mc_os_fork_watch(void)
{
    void *fresh;
    struct watch *none = &watch_nothing;
    if (page() != none || mc_os_map(MC_PAGE, &fresh)) return;
    int begun = mc_call_begin(MC_CALL_WATCH_FORK);
    long refused = begun ? MC_SYSCALL_3(SYS_madvise, fresh, MC_PAGE, MADV_WIPEONFORK) : -EPERM;
    if (begun) mc_call_end();
    *(struct watch *)fresh = watch_nothing;
    if (refused || !mc_swap_if(&watch, &none, (struct watch *)fresh)) mc_os_release(fresh, MC_PAGE);
}

/* The thread's number as libc knows it: a child by vfork(2) runs as its parent's thread. */
static long tid_in_libc(void)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    if (pthread_mutex_lock(&mutex)) return 0;
    long owner = mutex.__data.__owner;
    pthread_mutex_unlock(&mutex);
    return owner;
}

/* Both are asked: a raw clone(2) that copies the memory leaves libc's number behind, and a page that
 * was wiped takes the first number that is told. */
int mc_os_is_guest(void)
{
    struct watch *here = page();
    if (here == &watch_nothing || !mc_call_allowed(MC_CALL_PID | MC_CALL_TID)) return 0;
    uint64_t pid = (uint64_t)MC_SYSCALL_1(SYS_getpid, 0), known = 0;
    if (mc_swap_if(&here->pid, &known, pid) || known == pid) return 0;
    return MC_SYSCALL_1(SYS_gettid, 0) != tid_in_libc();
}
