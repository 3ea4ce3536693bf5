/* SPDX-License-Identifier: MIT */
/* See calls.h. */
#include "calls.h"

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
 * inherited those of threads that it does not have. */
void mc_calls_settle(void)
{
    enum { TRIES = 2000 };
    for (int i = 0; i < TRIES && __atomic_load_n(&mc_calls_begun, __ATOMIC_SEQ_CST); i++) {
        if (mc_call_allowed(MC_CALL_YIELD)) MC_SYSCALL_1(SYS_sched_yield, 0);
    }
}
