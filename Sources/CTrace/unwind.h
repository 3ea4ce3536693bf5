/* SPDX-License-Identifier: MIT */
/* Unwinding: which calls led here.
 *
 *   mc_unwind            the return addresses above a point of this thread, innermost first
 *   mc_unwind_context    the same from a signal handler's ucontext
 *   MC_UNWIND_CAPTURE    fills a struct mc_unwind_start where it is written
 *   mc_unwind_epoch_*    to be called around anything that unloads modules
 *
 * May be called by any thread, at any point, in signal handlers too. Takes no lock, allocates
 * nothing, changes neither errno nor any state of the process, needs about 2 KiB of stack. It never
 * faults: every stack word it reads is known to be readable first (unwind_stack.h).
 *
 * Cost: one lookup in a shared table and two or three loads a frame once the program's return
 * addresses have been seen (docs/unwinding.md has the figures); a few microseconds for the
 * whole walk when it meets a frame that a compact rule can't describe.
 *
 * Meaning of a walk's result:
 *   1. frames[i].pc is a return address, so the call is at pc - 1. For code that was interrupted by
 *      a signal it is the interrupted address plus one: subtracting one is always right.
 *   2. frames[i].slot is the stack address that holds it; 0 where no stack word does.
 *   3. mc_unwind begins with the return address of the function that captured `start`;
 *      mc_unwind_context begins with the interrupted address itself (slot 0).
 *   4. Without MC_UNWIND_GUESSED every frame follows from unwind information alone. */
#ifndef MC_UNWIND_H
#define MC_UNWIND_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#    include "unwind_x86_64.h"
#else
#    error "no unwinder for this architecture yet: add unwind_ARCH.h and unwind_ARCH.c"
#endif

struct mc_frame_site {
    uintptr_t slot;
    uintptr_t pc;
};

/* How a walk ended: exactly one of the first three bits. */
enum {
    MC_UNWIND_COMPLETE = 1 << 0,  /* reached the outermost frame */
    MC_UNWIND_CUT = 1 << 1,       /* there is more than `max` */
    MC_UNWIND_STOPPED = 1 << 2,   /* ended early, and why: */
    MC_UNWIND_NO_INFO = 1 << 3,   /* code without unwind information, frame pointer no help */
    MC_UNWIND_BAD_INFO = 1 << 4,  /* unwind information that makes no sense */
    MC_UNWIND_BAD_STACK = 1 << 5, /* led to an address that is no stack of ours */
    /* What the walk met. */
    MC_UNWIND_EXACT = 1 << 6,   /* the full interpreter was needed */
    MC_UNWIND_GUESSED = 1 << 7, /* at least one frame comes from a frame pointer only */
    MC_UNWIND_SIGNAL = 1 << 8,  /* a signal frame lies in between: its slot holds pc - 1 */
};

/* Writes at most `max` frames, returns how many. *flags is always set. */
size_t mc_unwind(const struct mc_unwind_start *start, struct mc_frame_site *frames, size_t max,
                 unsigned *flags);

/* `ucontext` is the third argument of a SA_SIGINFO handler. */
size_t mc_unwind_context(const void *ucontext, struct mc_frame_site *frames, size_t max,
                         unsigned *flags);

/* Between begin and end modules may disappear: cached rules are not used, and after end they are
 * forgotten. Calls nest and may overlap between threads. end costs a pass over the table. */
void mc_unwind_epoch_begin(void);
void mc_unwind_epoch_end(void);

/* In the child of a fork, before it unwinds: unfinished begins of other threads are void there. */
void mc_unwind_epoch_forked(void);

#endif
