/* SPDX-License-Identifier: MIT */
/* See calls.h. */
#include "calls.h"

#include "os.h"
#include "syscall.h"

uint32_t mc_calls_forbidden;
uint32_t mc_calls_begun;

int mc_call_begin(uint32_t calls)
{
    if (!mc_call_allowed(calls)) return 0;
    /* Counted first and looked at again, in one order with mc_calls_forbid() and mc_calls_settle():
     * either this sees what was taken back, or they see this. */
    __atomic_fetch_add(&mc_calls_begun, 1, __ATOMIC_SEQ_CST);
    if (!(__atomic_load_n(&mc_calls_forbidden, __ATOMIC_SEQ_CST) & calls)) return 1;
    mc_call_end();
    return 0;
}

uint32_t mc_calls_forbid(uint32_t calls)
{
    return calls & ~__atomic_fetch_or(&mc_calls_forbidden, calls, __ATOMIC_SEQ_CST);
}

void mc_calls_permit(uint32_t calls)
{
    __atomic_fetch_and(&mc_calls_forbidden, ~calls, __ATOMIC_RELEASE);
}

/* Bounded: the caller may be a signal handler that interrupted such a call, and a forked child has
 * inherited those of threads that it does not have. By time, since on a busy machine a thread may
 * not run for many yields of ours; by count as well, should the clock stand still. */
void mc_calls_settle(void)
{
    enum { MOST_MS = 1000, TRIES = 10000000 };
    uint64_t end = mc_os_clock_ms() + MOST_MS;
    for (int i = 0; i < TRIES && __atomic_load_n(&mc_calls_begun, __ATOMIC_SEQ_CST); i++) {
        if (mc_os_clock_ms() > end) return;
        if (mc_call_allowed(MC_CALL_YIELD)) MC_SYSCALL_1(SYS_sched_yield, 0);
    }
}
