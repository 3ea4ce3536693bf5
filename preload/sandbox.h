/* SPDX-License-Identifier: MIT */
/* Sandbox: whether the program has restricted its own system calls (seccomp(2)) since it started.
 * From then on a system call that it does not make itself may kill it, and asking the kernel is one
 * too. So the ways to do it, prctl(2) and syscall(2), pass through here. */
#ifndef MC_SANDBOX_H
#define MC_SANDBOX_H

int mc_sandboxed(void);

#endif
