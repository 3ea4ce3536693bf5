/* SPDX-License-Identifier: MIT */
/* Saved contexts: the registers that the kernel put on the stack when it called a signal handler, found there
 * by a word that has few values.
 *
 *     MC_SAVED_PC_BELOW    so many words below that word is the program counter
 *     mc_saved_pc          what it is; 0 where the word belongs to no context
 *
 * A stack may have leftovers of handlers that ended, and a program may write what looks alike. */
#ifndef MC_SAVED_CONTEXT_H
#define MC_SAVED_CONTEXT_H

#if defined(__x86_64__)
#    include "saved_context_x86_64.h"
#else
#    error "saved contexts are not known of this architecture yet: add saved_context_ARCH.h"
#endif

#endif
