/* SPDX-License-Identifier: MIT */
/* Forks in handlers: fork(2) called by a signal handler that interrupted the heap.
 *
 * A crash reporter's handler forks wherever the signal came, and its child allocates, though POSIX
 * promises it nothing then. What the interrupted code was just changing is the thread's own, and half
 * changed. So in such a child the thread goes on with another struct (mc_thread_leave()), and the
 * interrupted code, should the handler return, finds its own as it left it. What the old struct has
 * serves nobody in that child any more, as what the parent's other threads have.
 *
 * No flag in malloc tells, which each call would pay for: the child looks for what the kernel saved when
 * it called the handler, which lies on the stack not far above: segments and flags as a program has them
 * behind a program counter, which is in our code. It may be mistaken (an old handler's leftovers), which
 * costs memory, not correctness. What tracing calls can be interrupted too while it has a row at hand; so if
 * there was any handler, the parent's areas stay readable (mc_region_forked()).
 *
 * Not noticed: a child by _Fork(3) or a system call of the program's own, a handler with more than
 * LOOK_BYTES of variables, and one on a stack of which that much can't be looked at. */
#ifndef MC_HANDLER_FORK_H
#define MC_HANDLER_FORK_H

/* From now on forked children look. At the start of the process, once. */
void mc_handler_fork_watch(void);

#endif
