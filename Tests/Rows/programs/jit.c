/* SPDX-License-Identifier: MIT */
/* Makes code at run time, as a JIT compiler does: a function with a frame pointer and without any
 * unwind information, that calls from_jit(). Says where it is, and runs it when told. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

__attribute__((noinline)) static void from_jit(void)
{
    void *volatile object = malloc(123);
    (void)object;
}

int main(void)
{
    unsigned char code[] = {
        0x55,                                  /* push %rbp */
        0x48, 0x89, 0xe5,                      /* mov %rsp, %rbp */
        0x48, 0xb8, 0,    0, 0, 0, 0, 0, 0, 0, /* movabs $from_jit, %rax */
        0xff, 0xd0,                            /* call *%rax */
        0x5d,                                  /* pop %rbp */
        0xc3,                                  /* ret */
    };
    uint64_t target = (uint64_t)(uintptr_t)from_jit;
    memcpy(code + 6, &target, sizeof(target));
    void *memory =
        mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 1;
    memcpy(memory, code, sizeof(code));
    void (*run)(void);
    memcpy(&run, &memory, sizeof(run));
    char line[64], byte = 0;
    int size = snprintf(line, sizeof(line), "code %lx\n", (unsigned long)(uintptr_t)memory);
    if (write(1, line, (size_t)size) != size) return 1;
    while (byte != '\n' && read(0, &byte, 1) == 1)
        ;
    for (unsigned i = 0; i < 20; i++)
        run();
    if (write(1, "done\n", 5) != 5) return 1;
    return read(0, &byte, 1) < 0;
}
