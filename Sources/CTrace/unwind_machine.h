/* SPDX-License-Identifier: MIT */
/* What the unwinder asks of the processor and the kernel directly: each a few instructions of
 * unwind_x86_64.c. Private to the unwinder. */
#ifndef MC_UNWIND_MACHINE_H
#define MC_UNWIND_MACHINE_H

#include <stdint.h>

uintptr_t mc_machine_thread_pointer(void);

/* Can the eight bytes at `address`, a multiple of 8, be read? Asks the kernel, changes nothing, keeps
 * errno. Anything but a clear yes is a no. */
int mc_machine_readable(uintptr_t address);

#endif
