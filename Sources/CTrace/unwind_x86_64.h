/* SPDX-License-Identifier: MIT */
/* The x86-64 half of the unwinder's interface: where a walk starts.
 *
 * struct mc_unwind_start lists the registers in the order of their DWARF numbers, 0 (rax) to 15
 * (r15), then 16, the return address column, which stands for rip: the exact walk reads the struct
 * as that array. A walk that starts at a call knows only the registers a call preserves; one that
 * starts in a signal context knows all. `known` says which.
 *
 * MC_UNWIND_CAPTURE(start) is a statement: it fills *start with the registers of the function it
 * is written in, at that very line. It costs nine stores and calls nothing. */
#ifndef MC_UNWIND_X86_64_H
#define MC_UNWIND_X86_64_H

#include <stddef.h>
#include <stdint.h>

enum {
    MC_REG_BX = 3,
    MC_REG_BP = 6,
    MC_REG_SP = 7,
    MC_REG_PC = 16,
    MC_REG_COUNT = 17,
    /* rbx, rbp, rsp, r12 .. r15 and rip: bits are DWARF numbers. */
    MC_REG_KEPT_BY_CALLS = 1 << 3 | 1 << 6 | 1 << 7 | 0xf << 12 | 1 << 16,
    MC_REG_ALL = (1 << MC_REG_COUNT) - 1,
    /* Bytes below rsp that a signal handler leaves alone (System V ABI). */
    MC_RED_ZONE = 128,
};

struct mc_unwind_start {
    uintptr_t ax, dx, cx, bx, si, di, bp, sp;
    uintptr_t r8, r9, r10, r11, r12, r13, r14, r15;
    uintptr_t pc;
    uintptr_t known; /* bit i: register i holds a value */
};

_Static_assert(offsetof(struct mc_unwind_start, bp) == 8 * MC_REG_BP, "DWARF order");
_Static_assert(offsetof(struct mc_unwind_start, sp) == 8 * MC_REG_SP, "DWARF order");
_Static_assert(offsetof(struct mc_unwind_start, pc) == 8 * MC_REG_PC, "DWARF order");

/* The address register of the stores may itself be one of those stored; that is right: what counts
 * is the value each register has at label 1, and the rules for that address say the rest. */
#define MC_UNWIND_CAPTURE(start)                                                                   \
    do {                                                                                           \
        struct mc_unwind_start *mc_start_ = (start);                                               \
        uintptr_t mc_pc_;                                                                          \
        __asm__ volatile("movq %%rbx, 24(%1)\n\t"                                                  \
                         "movq %%rbp, 48(%1)\n\t"                                                  \
                         "movq %%rsp, 56(%1)\n\t"                                                  \
                         "movq %%r12, 96(%1)\n\t"                                                  \
                         "movq %%r13, 104(%1)\n\t"                                                 \
                         "movq %%r14, 112(%1)\n\t"                                                 \
                         "movq %%r15, 120(%1)\n\t"                                                 \
                         "1:\tleaq 1b(%%rip), %0"                                                  \
                         : "=r"(mc_pc_)                                                            \
                         : "r"(mc_start_)                                                          \
                         : "memory");                                                              \
        mc_start_->pc = mc_pc_;                                                                    \
        mc_start_->known = MC_REG_KEPT_BY_CALLS;                                                   \
    } while (0)

#endif
