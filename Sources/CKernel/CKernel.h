/* SPDX-License-Identifier: MIT */
/* Two system calls Swift can't spell: their glibc wrappers hide behind _GNU_SOURCE or live in
 * libnuma, and Swift imports no variadic syscall(2).
 *
 * Both return what the kernel returned, or -1 with errno set. */
#ifndef MC_CKERNEL_H
#define MC_CKERNEL_H

#include <stddef.h>
#include <stdint.h>
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

#endif
