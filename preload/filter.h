/* SPDX-License-Identifier: MIT */
/* Filter: what a seccomp filter says of a system call, found out without making it.
 *
 * A filter is a program of the classic packet filter (bpf(4), seccomp(2)): two registers, sixteen
 * words of memory, jumps forward only, so it ends. It reads the number, the architecture and the
 * arguments of the call, as struct seccomp_data, and returns an action. Several filters may be
 * installed; the kernel runs them all and takes the strictest action.
 *
 * Nothing is assumed of the program: what the kernel would refuse to install, or what runs off its
 * end, counts as killing. No allocation, no system call, 100 bytes of stack. */
#ifndef MC_FILTER_H
#define MC_FILTER_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>

/* The action, as the filter returns it: SECCOMP_RET_... with its data. */
uint32_t mc_filter_run(const struct sock_filter *code, unsigned count,
                       const struct seccomp_data *call);

/* Whether a call that gets this action comes back to its caller, done or refused: nobody is killed,
 * signalled or asked. */
int mc_filter_returns(uint32_t action);

#endif
