/* SPDX-License-Identifier: MIT */
/* System calls Swift can't spell: their glibc wrappers hide behind _GNU_SOURCE or live in libnuma,
 * Swift imports neither variadic syscall(2) nor ioctl(2), and the requests are younger than the
 * kernel headers of Debian 12.
 *
 * All return what the kernel returned, or -1 with errno set. */
#ifndef MC_CKERNEL_H
#define MC_CKERNEL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
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

#endif
