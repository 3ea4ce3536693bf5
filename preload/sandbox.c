/* SPDX-License-Identifier: MIT */
/* See sandbox.h. Both functions do what libc's do: the system call, and errno. */
#include "sandbox.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/prctl.h>

#include "instrument.h"
#include "syscall.h"

static int sandboxed;

int mc_sandboxed(void)
{
    return mc_load(&sandboxed);
}

static long finish(long result)
{
    if (!mc_syscall_failed(result)) return result;
    errno = (int)-result;
    return -1;
}

EXPORT int prctl(int option, ...)
{
    va_list list;
    va_start(list, option);
    long a = va_arg(list, long), b = va_arg(list, long);
    long c = va_arg(list, long), d = va_arg(list, long);
    va_end(list);
    if (option == PR_SET_SECCOMP) mc_store(&sandboxed, 1);
    return (int)finish(MC_SYSCALL_5(SYS_prctl, option, a, b, c, d));
}

EXPORT long syscall(long number, ...)
{
    va_list list;
    va_start(list, number);
    long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
    long d = va_arg(list, long), e = va_arg(list, long), f = va_arg(list, long);
    va_end(list);
    if (number == SYS_seccomp) mc_store(&sandboxed, 1);
    return finish(mc_syscall(number, a, b, c, d, e, f));
}
