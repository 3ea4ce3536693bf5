/* SPDX-License-Identifier: MIT */
/* Own calls: every system call that the library makes of its own accord, with the arguments it
 * makes it with, so that a filter can be asked about each. What is not known before (addresses,
 * sizes, descriptors) is given as an example; filters look at numbers and flags.
 *
 * What the program asks for itself (exit, the loader's work) and what ends it (abort) is not here. */
#ifndef MC_OWN_CALLS_H
#define MC_OWN_CALLS_H

#include <linux/filter.h>
#include <stdint.h>

/* Those of MC_CALL_... (calls.h) that the filter would not let return. Calls that glibc's heap can't
 * do without either are among them only if the filter kills for them: then there is no more memory
 * instead. */
uint32_t mc_own_calls_lost(const struct sock_filter *code, unsigned count);

#endif
