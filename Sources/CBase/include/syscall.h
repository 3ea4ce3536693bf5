/* SPDX-License-Identifier: MIT */
/* System calls without libc: programs replace libc's functions (mmap, open, syscall itself) by
 * their own, which may allocate; and they are cancellation points, which malloc must not be.
 * Arguments are integers or pointers; the result is the kernel's, -errno for an error. */
#ifndef MC_SYSCALL_H
#define MC_SYSCALL_H

#include <sys/syscall.h>

#if defined(__x86_64__)
#    include "syscall_x86_64.h"
#else
#    error "no system calls for this architecture yet: add syscall_ARCH.h"
#endif

#define MC_SYSCALL_1(n, a)          mc_syscall(n, (long)(a), 0, 0, 0, 0, 0)
#define MC_SYSCALL_2(n, a, b)       mc_syscall(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define MC_SYSCALL_3(n, a, b, c)    mc_syscall(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define MC_SYSCALL_4(n, a, b, c, d) mc_syscall(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define MC_SYSCALL_5(n, a, b, c, d, e)                                                             \
    mc_syscall(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define MC_SYSCALL_6(n, a, b, c, d, e, f)                                                          \
    mc_syscall(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* Whether a result is an error. */
static inline int mc_syscall_failed(long result)
{
    return (unsigned long)result > -4096ul;
}

#endif
