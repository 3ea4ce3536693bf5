/* SPDX-License-Identifier: MIT */
/* See own_calls.h. */
#define _GNU_SOURCE
#include "own_calls.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "calls.h"
#include "filter.h"
#include "trace.h"

#if defined(__x86_64__)
#    define ARCHITECTURE AUDIT_ARCH_X86_64
#else
#    error "the name of this architecture in seccomp(2) is missing"
#endif

enum {
    ANON = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
    READ_WRITE = PROT_READ | PROT_WRITE,
    POPULATE_WRITE = 23, /* MADV_POPULATE_WRITE, of Linux 5.14 */
    FRESH = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
    AGAIN = O_RDWR | O_NOFOLLOW | O_CLOEXEC,
    FOLDER = O_DIRECTORY | O_CLOEXEC,
    SIZE = 1 << 20,
    FD = 3,
};
#define NONE ((uint64_t)-1)
#define HERE ((uint64_t)-2) /* stands for some address of ours: so the table needs no relocation */

/* Making and removing the region: what each needs of files. */
#define ANY_FILE (MC_CALL_MAKE_FILE | MC_CALL_REMOVE_FILE | MC_CALL_GROW_FILE)

static const struct own_call {
    uint32_t calls;
    int number;
    uint64_t arguments[6];
} table[] = {
    {MC_CALL_MAP, SYS_mmap, {0, SIZE, READ_WRITE, ANON, NONE, 0}},
    {MC_CALL_RESERVE, SYS_mmap, {0, SIZE, PROT_NONE, ANON, NONE, 0}},
    {MC_CALL_COMMIT, SYS_mprotect, {HERE, SIZE, READ_WRITE}},
    {MC_CALL_RELEASE, SYS_munmap, {HERE, SIZE}},
    {MC_CALL_PURGE, SYS_madvise, {HERE, SIZE, MADV_DONTNEED}},
    {MC_CALL_REPLACE, SYS_mmap, {HERE, SIZE, READ_WRITE, ANON | MAP_FIXED, NONE, 0}},
    {MC_CALL_HUGE_PAGES, SYS_madvise, {HERE, SIZE, MADV_HUGEPAGE}},
    {MC_CALL_HUGE_PAGES, SYS_madvise, {HERE, SIZE, MADV_NOHUGEPAGE}},
    {MC_CALL_RESIZE, SYS_mremap, {HERE, SIZE, 2 * SIZE, MREMAP_MAYMOVE}},
    {MC_CALL_WATCH_FORK, SYS_madvise, {HERE, MC_REGION_PAGE, MADV_WIPEONFORK}},
    {MC_CALL_SHARE, SYS_mremap, {HERE, 0, SIZE, MREMAP_MAYMOVE}},
    {MC_CALL_SHARE, SYS_prlimit64, {0, RLIMIT_AS, 0, HERE}},
    {MC_CALL_POPULATE, SYS_madvise, {HERE, MC_REGION_PAGE, POPULATE_WRITE}},
    {MC_CALL_GROW_FILE | MC_CALL_MAKE_FILE, SYS_openat, {(uint64_t)AT_FDCWD, HERE, AGAIN, 0600}},
    {MC_CALL_GROW_FILE, SYS_fallocate, {FD, 0, 0, MC_REGION_PAGE}},
    {MC_CALL_GROW_FILE | MC_CALL_MAKE_FILE, SYS_close, {FD}},
    {MC_CALL_REMOVE_FILE | MC_CALL_MAKE_FILE, SYS_unlinkat, {(uint64_t)AT_FDCWD, HERE, 0}},
    {MC_CALL_MAKE_FILE, SYS_unlinkat, {FD, HERE, 0}},
    {MC_CALL_MAKE_FILE, SYS_openat, {(uint64_t)AT_FDCWD, HERE, FOLDER, 0600}},
    {MC_CALL_MAKE_FILE, SYS_openat, {(uint64_t)AT_FDCWD, HERE, FOLDER | O_NOFOLLOW, 0600}},
    {MC_CALL_MAKE_FILE, SYS_openat, {FD, HERE, FRESH, 0600}},
    {MC_CALL_MAKE_FILE, SYS_openat, {FD, HERE, O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC, 0600}},
    {MC_CALL_MAKE_FILE, SYS_openat, {(uint64_t)AT_FDCWD, HERE, O_CLOEXEC, 0600}},
    {MC_CALL_MAKE_FILE, SYS_mkdir, {HERE, 0700}},
    {MC_CALL_MAKE_FILE, SYS_newfstatat, {(uint64_t)AT_FDCWD, HERE, HERE, 0}},
    {MC_CALL_MAKE_FILE, SYS_newfstatat, {FD, HERE, HERE, AT_EMPTY_PATH}},
    {MC_CALL_MAKE_FILE, SYS_geteuid, {0}},
    {MC_CALL_MAKE_FILE, SYS_getdents64, {FD, HERE, 2048}},
    {MC_CALL_MAKE_FILE, SYS_readlink, {HERE, HERE, 255}},
    {MC_CALL_MAKE_FILE, SYS_ftruncate, {FD, SIZE}},
    {MC_CALL_MAKE_FILE, SYS_pwrite64, {FD, HERE, SIZE, 0}},
    {MC_CALL_MAKE_FILE, SYS_pread64, {FD, HERE, SIZE, 0}},
    {MC_CALL_MAKE_FILE, SYS_read, {FD, HERE, 1023}},
    {MC_CALL_MAKE_FILE, SYS_renameat2, {FD, HERE, FD, HERE, 1}},
    {MC_CALL_MAKE_FILE, SYS_kill, {SIZE, 0}},
    {MC_CALL_MAKE_FILE, SYS_prlimit64, {0, RLIMIT_FSIZE, 0, HERE}},
    {MC_CALL_MAKE_FILE, SYS_mmap, {HERE, SIZE, READ_WRITE, MAP_SHARED | MAP_FIXED, FD, 0}},
    {MC_CALL_PID | ANY_FILE, SYS_getpid, {0}},
    {MC_CALL_TID, SYS_gettid, {0}},
    {MC_CALL_PARENT, SYS_getppid, {0}},
    {MC_CALL_YIELD, SYS_sched_yield, {0}},
    {MC_CALL_FUTEX, SYS_futex, {HERE, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 2}},
    {MC_CALL_FUTEX, SYS_futex, {HERE, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, HERE}},
    {MC_CALL_FUTEX, SYS_futex, {HERE, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1}},
    {MC_CALL_PROBE, SYS_rt_sigprocmask, {NONE, HERE, 0, 8}},
    {MC_CALL_CLOCK, SYS_clock_gettime, {CLOCK_MONOTONIC, HERE}},
    {MC_CALL_CLOCK, SYS_clock_gettime, {CLOCK_BOOTTIME, HERE}},
    {MC_CALL_CLOCK, SYS_clock_gettime, {CLOCK_REALTIME, HERE}},
};

static int kills(uint32_t action)
{
    uint32_t kind = action & SECCOMP_RET_ACTION_FULL;
    return kind == SECCOMP_RET_KILL_PROCESS || kind == SECCOMP_RET_KILL_THREAD;
}

static int refuses(uint32_t action)
{
    return (action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ERRNO;
}

uint32_t mc_own_calls_lost(const struct sock_filter *code, unsigned count)
{
    enum { ESSENTIAL = MC_CALL_MAP | MC_CALL_RELEASE };
    /* Nobody expects them to fail. */
    enum { UNFAILING = MC_CALL_PID | MC_CALL_TID | MC_CALL_PARENT | MC_CALL_CLOCK };
    uint32_t lost = 0;
    for (unsigned i = 0; i < sizeof(table) / sizeof(*table); i++) {
        struct seccomp_data call = {.nr = table[i].number,
                                    .arch = ARCHITECTURE,
                                    .instruction_pointer = (uint64_t)&mc_own_calls_lost};
        for (unsigned at = 0; at < 6; at++) {
            uint64_t argument = table[i].arguments[at];
            call.args[at] = argument == HERE ? (uint64_t)&mc_control : argument;
        }
        uint32_t action = mc_filter_run(code, count, &call);
        int good = mc_filter_returns(action);
        if (table[i].calls & ESSENTIAL) good = !kills(action);
        if (table[i].calls & UNFAILING) good = good && !refuses(action);
        if (!good) lost |= table[i].calls;
    }
    return lost;
}
