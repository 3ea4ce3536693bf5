/* SPDX-License-Identifier: MIT */
/* Saved contexts on x86-64: known by the code and stack segments, which are in one word, and by the flags in the
 * word below, of which one bit is always set and few are used (Intel SDM, volume 1, 3.4.3). */
#ifndef MC_SAVED_CONTEXT_X86_64_H
#define MC_SAVED_CONTEXT_X86_64_H

#include <asm/sigcontext.h>
#include <stddef.h>
#include <stdint.h>

#define MC_SAVED_AT(field) ((int)(offsetof(struct sigcontext_64, field) / sizeof(uint64_t)))

enum { MC_SAVED_PC_BELOW = MC_SAVED_AT(cs) - MC_SAVED_AT(ip) };

static inline int mc_saved_segments(uint64_t word)
{
    enum { CODE = 0x33, STACK = 0x2b };
    return word == (CODE | (uint64_t)STACK << 48) || word == CODE; /* as older kernels have it */
}

static inline uint64_t mc_saved_pc(const uint64_t *segments)
{
    enum { FLAGS = MC_SAVED_AT(flags) - MC_SAVED_AT(cs), ALWAYS_SET = 2, FLAGS_END = 1 << 22 };
    if (__builtin_expect(!mc_saved_segments(*segments), 1)) return 0;
    uint64_t flags = segments[FLAGS];
    return flags & ALWAYS_SET && flags < FLAGS_END ? segments[-MC_SAVED_PC_BELOW] : 0;
}

#endif
