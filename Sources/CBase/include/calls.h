/* SPDX-License-Identifier: MIT */
/* Calls: which system calls may be made that the program did not ask for.
 *
 * A program that restricts its own system calls (seccomp(2)) may be killed for one that it does not
 * make itself. Those that the heap and the tracing make of their own accord are named here, each
 * with what goes without it. Whoever sees the program restrict itself (preload/sandbox.c) takes
 * those back that would not be let pass; who makes one asks first. Nothing is forbidden at start.
 *
 *     if (!mc_call_begin(MC_CALL_PURGE)) return EPERM;
 *     ... the system call ...
 *     mc_call_end();
 *
 * What is between begin and end is waited for by mc_calls_settle(), so that no other thread is in
 * the middle of a call when the restriction comes over it. Any thread, also in a signal handler. */
#ifndef MC_CALLS_H
#define MC_CALLS_H

#include <stdint.h>

#include "bits.h"

enum mc_call {
    MC_CALL_MAP = 1 << 0,          /* mmap: no more memory than there is */
    MC_CALL_RESERVE = 1 << 1,      /* mmap, PROT_NONE: reserved memory is usable at once */
    MC_CALL_COMMIT = 1 << 2,       /* mprotect: likewise */
    MC_CALL_RELEASE = 1 << 3,      /* munmap: what is freed stays mapped */
    MC_CALL_PURGE = 1 << 4,        /* madvise: fresh memory is mapped over what is to go */
    MC_CALL_REPLACE = 1 << 5,      /* mmap, MAP_FIXED: nothing is purged */
    MC_CALL_RESIZE = 1 << 6,       /* mremap: contents are copied */
    MC_CALL_WATCH_FORK = 1 << 7,   /* madvise: a raw fork goes unnoticed */
    MC_CALL_SHARE = 1 << 8,        /* mremap, of the region: no tracing where none was before */
    MC_CALL_POPULATE = 1 << 9,     /* madvise: the trace's table does not grow; pages come singly */
    MC_CALL_GROW_FILE = 1 << 10,   /* fallocate and what opens the file, on old kernels: likewise */
    MC_CALL_MAKE_FILE = 1 << 11,   /* a forked child has no region of its own */
    MC_CALL_REMOVE_FILE = 1 << 12, /* the region is left for memctl to remove */
    MC_CALL_PID = 1 << 13,         /* getpid: likewise, and it does not tell that it may */
    MC_CALL_TID = 1 << 14,         /* gettid: a vfork child's filters count as the process' */
    MC_CALL_PARENT = 1 << 15,      /* getppid: a daemon's region has no name */
    MC_CALL_YIELD = 1 << 16,       /* sched_yield: waits are shorter */
    MC_CALL_PROBE = 1 << 17,       /* rt_sigprocmask: unknown memory is not read */
    MC_CALL_CLOCK = 1 << 18,       /* clock_gettime, where it is one: time in steps of a few ms */
    MC_CALL_HUGE_PAGES = 1 << 19,  /* madvise: a page table entry for each page */
    MC_CALL_FUTEX = 1 << 20,       /* futex: who waits for another thread, spins */
    MC_CALL_ALL = (1 << 21) - 1,
};

extern uint32_t mc_calls_forbidden; /* [shared] */
extern uint32_t mc_calls_begun;     /* [shared] */

/* Whether all these may be made now. One load. */
static inline int mc_call_allowed(uint32_t calls)
{
    return !(mc_load(&mc_calls_forbidden) & calls);
}

/* The same, and mc_call_end() has to follow if so. */
int mc_call_begin(uint32_t calls);

static inline void mc_call_end(void)
{
    __atomic_fetch_sub(&mc_calls_begun, 1, __ATOMIC_RELEASE);
}

/* Takes these back; returns those that were allowed until now. */
uint32_t mc_calls_forbid(uint32_t calls);
void mc_calls_permit(uint32_t calls);

/* Waits, for a bounded time, until no call is under way that began before it was taken back. */
void mc_calls_settle(void);

#endif
