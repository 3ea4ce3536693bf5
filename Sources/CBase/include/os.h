/* SPDX-License-Identifier: MIT */
/* The kernel, as far as memory and time go. The only file of the heap that makes system calls.
 *
 * Every call returns 0 or an errno value, and leaves errno and its out-parameters alone on
 * failure. Addresses and sizes are multiples of the page size and sizes are > 0, unless said
 * otherwise. Any thread, any time, also in a signal handler: nothing here locks or allocates.
 * The calls do not go through libc: see syscall.h. A call that may not be made any more (calls.h)
 * fails with EPERM, or is done by another. */
#ifndef MC_OS_H
#define MC_OS_H

#include <stddef.h>
#include <stdint.h>

/* Address space only, which can't be touched yet; *usable: it can, it is committed already. */
int mc_os_reserve(size_t size, void **out, int *usable);
int mc_os_map(size_t size, void **out);     /* readable, writable, zero */
int mc_os_commit(void *start, size_t size); /* reserved pages become usable, and are zero */
int mc_os_huge_pages(void *start, size_t size, int wanted); /* a wish: whether they may back it */
int mc_os_populate(void *start, size_t size); /* as if all pages were touched; EINVAL: not here */
int mc_os_purge(void *start, size_t size);    /* pages go back; they read as zero when touched */
int mc_os_replace(void *start, size_t size);  /* fresh memory of its own lies there instead */
int mc_os_release(void *start, size_t size);  /* address space goes back */
int mc_os_resize(void *start, size_t size, size_t wanted, void **out); /* may move; contents kept */

/* Milliseconds since boot, in steps of a few; costs no system call. */
uint64_t mc_os_clock_ms(void);

/* 64 bits that another process can't guess. No system call. */
uint64_t mc_os_random(void);

/* 1 in a process that fork(2), or clone(2) without CLONE_VM, made of one where mc_os_fork_watch()
 * was called, until mc_os_fork_done(); else 0. One load. */
int mc_os_forked(void);
void mc_os_fork_watch(void);
void mc_os_fork_done(void);

/* 1 in a child that lives in the memory of its parent, which waits for it, as vfork(2) makes them:
 * what it does to itself is not done to the process whose memory this is. Only sure in processes
 * that asked before. */
int mc_os_is_guest(void);

/* Each step of what a forked process has to do is for one thread: 1 on the first call there, else 0. */
enum { MC_FORK_HEAP, MC_FORK_REGION, MC_FORK_STEPS };
int mc_os_fork_first(unsigned step);

/* 0 in a forked process until mc_os_fork_set_generation(); then, and in its parent, not. */
uint64_t mc_os_fork_generation(void);
void mc_os_fork_set_generation(uint64_t generation);

#endif
