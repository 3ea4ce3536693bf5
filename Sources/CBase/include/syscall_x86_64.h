/* SPDX-License-Identifier: MIT */
/* The system call instruction of x86-64: number in rax, arguments in rdi, rsi, rdx, r10, r8, r9;
 * rcx and r11 are lost. */
#ifndef MC_SYSCALL_X86_64_H
#define MC_SYSCALL_X86_64_H

static inline long mc_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#endif
