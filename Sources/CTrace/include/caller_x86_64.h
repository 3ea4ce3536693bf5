/* SPDX-License-Identifier: MIT */
/* Callers on x86-64: the return address is the word at rsp; two words of struct mc_caller are passed
 * in the two registers after the last argument's. */
#ifndef MC_CALLER_X86_64_H
#define MC_CALLER_X86_64_H

/* Defines `name`, declared before, of two or three integer arguments, as a jump to `target`, which has a
 * struct mc_caller after them. `target` is to be marked used. */
#define MC_CALLER_ENTRY(name, target, sp_register, bp_register)                                    \
    __asm__(".text\n\t"                                                                            \
            ".p2align 4\n\t"                                                                       \
            ".globl " #name "\n\t"                                                                 \
            ".hidden " #name "\n\t"                                                                \
            ".type " #name ", @function\n" #name ":\n\t"                                           \
            ".cfi_startproc\n\t"                                                                   \
            "leaq 8(%rsp), %" #sp_register "\n\t"                                                  \
            "movq %rbp, %" #bp_register "\n\t"                                                     \
            "jmp " #target "\n\t"                                                                  \
            ".cfi_endproc\n\t"                                                                     \
            ".size " #name ", . - " #name)
#define MC_CALLER_ENTRY_2(name, target) MC_CALLER_ENTRY(name, target, rdx, rcx)
#define MC_CALLER_ENTRY_3(name, target) MC_CALLER_ENTRY(name, target, rcx, r8)

#endif
