/* SPDX-License-Identifier: MIT */
/* What the unwinder asks of the processor and the kernel directly: each a few instructions of
 * unwind_x86_64.c. Private to the unwinder. */
#ifndef MC_UNWIND_MACHINE_H
#define MC_UNWIND_MACHINE_H

#include <stdint.h>

uintptr_t mc_machine_thread_pointer(void);

/* 1: no system call may be made; nothing counts as readable then. */
extern unsigned char mc_machine_no_calls; /* [shared] */

/* Can the eight bytes at `address`, a multiple of 8, be read? Asks the kernel, changes nothing,
 * keeps errno. Anything but a clear yes is a no. */
int mc_machine_readable(uintptr_t address);

/* For an instruction at `pc` interrupted in code without unwind information: where, in words above
 * the stack pointer, the return address is, if the instruction itself tells: 0 at a function's
 * entry, in a PLT stub or at a return; 1 where the frame pointer has just been pushed. Else -1. */
int mc_machine_entry_depth(uintptr_t pc);

/* Is there a call in front of `pc`, which may be any number? */
int mc_machine_is_after_call(uintptr_t pc);

#endif
