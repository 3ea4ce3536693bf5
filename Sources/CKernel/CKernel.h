/* SPDX-License-Identifier: MIT */
/* System calls Swift can't spell: their glibc wrappers hide behind _GNU_SOURCE or live in libnuma,
 * Swift imports no variadic syscall(2), ioctl(2) or ptrace(2), and the requests are younger than
 * the kernel headers of Debian 12.
 *
 * They return what the kernel returned, or -1 with errno set, unless it is said otherwise. */
#ifndef MC_CKERNEL_H
#define MC_CKERNEL_H

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Copies `remote_count` ranges of process `pid` into one buffer; stops at the first range that
 * can't be read, and returns the bytes copied so far (of a range at its start: -1). */
static inline ssize_t mc_read_process(pid_t pid, void *buffer, size_t size,
                                      const struct iovec *remote, size_t remote_count)
{
    struct iovec local = {.iov_base = buffer, .iov_len = size};
    return syscall(SYS_process_vm_readv, pid, &local, 1ul, remote, remote_count, 0ul);
}

/* Stores the node of each page in `nodes`, or a negative errno value (-ENOENT: no page there).
 * Moves nothing. */
static inline long mc_query_nodes(pid_t pid, size_t count, const uint64_t *pages, int *nodes)
{
    return syscall(SYS_move_pages, pid, count, pages, NULL, nodes, 0);
}

/* What PAGEMAP_SCAN tells of a run of pages: bits of `categories`. */
enum {
    MC_PAGE_FILE = 1 << 2,
    MC_PAGE_PRESENT = 1 << 3,
    MC_PAGE_SWAPPED = 1 << 4,
    MC_PAGE_ZERO = 1 << 5, /* the kernel's page of zeros: present, and nobody's memory */
    MC_PAGE_HUGE = 1 << 6, /* mapped by a huge entry */
};

struct mc_page_run {
    uint64_t start; /* addresses */
    uint64_t end;
    uint64_t categories;
};

/* Runs of pages from `start` to `end` that are present or in swap, by ioctl(2) on an open
 * /proc/PID/pagemap (Linux 6.7; ENOTTY before). Ends after `page_limit` such pages, so that the
 * process' address space is not held for long; *stopped_at is where to go on. Returns runs. */
static inline long mc_scan_pages(int pagemap, uint64_t start, uint64_t end, uint64_t page_limit,
                                 struct mc_page_run *runs, size_t run_count, uint64_t *stopped_at)
{
    struct {
        uint64_t size, flags, start, end, walk_end, runs, run_count, page_limit;
        uint64_t inverted, all_of, any_of, returned;
    } request = {
        .size = sizeof(request),
        .start = start,
        .end = end,
        .runs = (uint64_t)(uintptr_t)runs,
        .run_count = run_count,
        .page_limit = page_limit,
        .any_of = MC_PAGE_PRESENT | MC_PAGE_SWAPPED,
        .returned = MC_PAGE_FILE | MC_PAGE_PRESENT | MC_PAGE_SWAPPED | MC_PAGE_ZERO | MC_PAGE_HUGE,
    };
    long found = ioctl(pagemap, _IOC(_IOC_READ | _IOC_WRITE, 'f', 16, sizeof(request)), &request);
    if (found >= 0) *stopped_at = request.walk_end;
    return found;
}

/* Page size of the mapping at `address`, by ioctl(2) on an open /proc/PID/maps (Linux 6.11; ENOTTY
 * before). */
static inline long mc_mapping_page_size(int maps, uint64_t address)
{
    struct {
        uint64_t size, flags, address, start, end, mapping_flags, page_size, offset, inode;
        uint32_t major, minor, name_size, build_id_size;
        uint64_t name, build_id;
    } request = {.size = sizeof(request), .address = address};
    int result = ioctl(maps, _IOC(_IOC_READ | _IOC_WRITE, 'f', 17, sizeof(request)), &request);
    return result < 0 ? result : (long)request.page_size;
}

/* Waits until the kernel reports a stop of a thread that this thread traces. */
static inline int mc_await_stop(pid_t tid, unsigned patience_ms, int *status)
{
    for (unsigned waited = 0; waited <= patience_ms; waited++) {
        const struct timespec pause = {.tv_nsec = 1000000};
        pid_t found = waitpid(tid, status, __WALL | WNOHANG);
        if (found == tid) return WIFSTOPPED(*status) ? 0 : ESRCH;
        if (found < 0 && errno != EINTR) return errno;
        if (found == 0 && waited) nanosleep(&pause, NULL);
    }
    return ETIMEDOUT;
}

/* Stops one thread for as long as it takes to copy its general registers, as a debugger does; a
 * thread that job control has stopped stays so. Returns 0 and the bytes copied, or an errno value.
 * ETIMEDOUT: it is in an uninterruptible sleep. It then is let go when this program ends. */
static inline int mc_thread_registers(pid_t tid, uint64_t *words, size_t *size,
                                      unsigned patience_ms)
{
    enum { STOP_EVENT = 128 }; /* PTRACE_EVENT_STOP */
    struct iovec area = {.iov_base = words, .iov_len = *size};
    int status = 0;
    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL)) return errno;
    if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL)) return errno;
    int error = mc_await_stop(tid, patience_ms, &status);
    if (error) return error;
    if (ptrace(PTRACE_GETREGSET, tid, (void *)(uintptr_t)NT_PRSTATUS, &area)) error = errno;
    /* A signal that stopped it first is delivered now. */
    unsigned long sent = status >> 16 == STOP_EVENT ? 0 : (unsigned long)WSTOPSIG(status);
    if (ptrace(PTRACE_DETACH, tid, NULL, (void *)sent) && !error) error = errno;
    *size = area.iov_len;
    return error;
}

#endif
