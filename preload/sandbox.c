/* SPDX-License-Identifier: MIT */
/* Sandbox: a program restricts its own system calls (seccomp(2)), by prctl(2) or syscall(2), which
 * pass through here for that.
 *
 * From then on a call that it does not make itself may kill it. So each filter is run for every call
 * that we make of our own accord (own_calls.h), and those it would not let return are taken back
 * (calls.h): before the filter is installed, since it may come over other threads at once, and for
 * good if the kernel takes it. Filters stack, and what one forbids no other permits again.
 *
 * The kernel is asked first whether the filter can be read: a bad address is the usual way to find
 * out if the kernel knows filters. Where asking is forbidden by now, all that can be done without is
 * taken back until the kernel has accepted the filter.
 *
 * A filter is for one thread and those it makes, or for all (TSYNC). What is taken back here is for
 * all: there is no telling which thread will run our code.
 *
 * Not seen: filters that were there before the program began, and those installed by a system call
 * instruction of the program's own.
 *
 * Both functions do what libc's do: the system call, and errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <sys/prctl.h>

#include "calls.h"
#include "filter.h"
#include "instrument.h"
#include "os.h"
#include "own_calls.h"
#include "syscall.h"

/* What the kernel is asked to do. */
struct request {
    long mode; /* SECCOMP_SET_MODE_..., or -1: something else */
    unsigned long flags;
    const struct sock_fprog *filter;
};

/* Threads that install filters, one after the other: a failure must give back what it took. */
static uint32_t installing; /* [shared] */

static int can_be_read(const struct sock_fprog *filter)
{
    return mc_trace_can_read(filter, sizeof(*filter)) && filter->len > 0 &&
           mc_trace_can_read(filter->filter, filter->len * sizeof(*filter->filter));
}

/* What can be done without while it is not known which are lost: to go without reserved or new memory
 * would be to fail. */
enum {
    FOR_A_MOMENT = MC_CALL_ALL & ~(MC_CALL_MAP | MC_CALL_RELEASE | MC_CALL_RESERVE | MC_CALL_COMMIT)
};

static uint32_t lost_to(const struct request *request, int known)
{
    if (request->mode == SECCOMP_SET_MODE_STRICT) return MC_CALL_ALL;
    return known ? mc_own_calls_lost(request->filter->filter, request->filter->len) : FOR_A_MOMENT;
}

/* In turn if that is soon; else nothing that was taken is given back. */
static int enter(void)
{
    enum { TRIES = 1000 };
    for (int i = 0; i < TRIES; i++) {
        uint32_t no = 0;
        if (mc_swap_if(&installing, &no, 1)) return 1;
        if (mc_call_allowed(MC_CALL_YIELD)) MC_SYSCALL_1(SYS_sched_yield, 0);
    }
    return 0;
}

static void update_trace(void)
{
    mc_trace_may_call(mc_call_allowed(MC_CALL_PROBE | MC_CALL_YIELD));
}

/* Takes back what will be lost, in an order that leaves no thread without memory: what is reserved
 * from now on needs no commit, then all that is reserved is committed. Returns what was allowed. */
static uint32_t forgo(uint32_t lost)
{
    uint32_t taken = 0;
    if (lost & MC_CALL_MAKE_FILE) mc_region_name();
    if (lost & MC_CALL_COMMIT && mc_call_allowed(MC_CALL_COMMIT)) {
        taken = mc_calls_forbid(MC_CALL_RESERVE);
        mc_heap_commit();
    }
    taken |= mc_calls_forbid(lost);
    update_trace();
    return taken;
}

/* With TSYNC the kernel returns the number of a thread that it could not make follow. */
static int has_failed(const struct request *request, long result)
{
    if (mc_syscall_failed(result)) return 1;
    return result > 0 && !(request->flags & SECCOMP_FILTER_FLAG_NEW_LISTENER);
}

static long make(long number, const long *with)
{
    return mc_syscall(number, with[0], with[1], with[2], with[3], with[4], with[5]);
}

/* Makes the call that installs a filter, and does without what the filter will not let pass. */
static long install(const struct request *request, long number, const long *arguments)
{
    if (mc_os_is_guest()) return make(number, arguments); /* not this process' heap is restricted */
    int in_turn = enter();
    int known = request->mode == SECCOMP_SET_MODE_STRICT || can_be_read(request->filter);
    uint32_t lost = lost_to(request, known), taken = forgo(lost);
    if (request->flags & SECCOMP_FILTER_FLAG_TSYNC) mc_calls_settle();
    long result = make(number, arguments);
    if (has_failed(request, result)) {
        lost = 0;
    } else if (!known) { /* the kernel has read it, so it can be read */
        lost = lost_to(request, 1);
        mc_calls_forbid(lost);
    }
    if (in_turn) {
        mc_calls_permit(taken & ~lost);
        update_trace();
        mc_store_release(&installing, 0);
    }
    return result;
}

static struct request prctl_request(long option, long mode, long filter)
{
    struct request request = {-1, 0, (const struct sock_fprog *)filter};
    if (option == PR_SET_SECCOMP && mode == SECCOMP_MODE_STRICT)
        request.mode = SECCOMP_SET_MODE_STRICT;
    if (option == PR_SET_SECCOMP && mode == SECCOMP_MODE_FILTER)
        request.mode = SECCOMP_SET_MODE_FILTER;
    return request;
}

static struct request seccomp_request(long operation, long flags, long filter)
{
    struct request request = {-1, (unsigned long)flags, (const struct sock_fprog *)filter};
    if (operation == SECCOMP_SET_MODE_STRICT || operation == SECCOMP_SET_MODE_FILTER)
        request.mode = operation;
    return request;
}

static long finish(long result)
{
    if (!mc_syscall_failed(result)) return result;
    errno = (int)-result;
    return -1;
}

static long call(long number, const long *arguments)
{
    struct request request = {-1, 0, 0};
    if (number == SYS_prctl) request = prctl_request(arguments[0], arguments[1], arguments[2]);
    if (number == SYS_seccomp) request = seccomp_request(arguments[0], arguments[1], arguments[2]);
    if (request.mode >= 0) return install(&request, number, arguments);
    return make(number, arguments);
}

EXPORT int prctl(int option, ...)
{
    va_list list;
    va_start(list, option);
    long arguments[6] = {option};
    for (int i = 1; i < 5; i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    return (int)finish(call(SYS_prctl, arguments));
}

EXPORT long syscall(long number, ...)
{
    long arguments[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    return finish(call(number, arguments));
}
