/* SPDX-License-Identifier: MIT */
/* What an unwinder may read: the stack around a stack pointer.
 *
 *   mc_stack_find    the range known to be readable around `sp`
 *   mc_stack_reach   can these bytes be read? makes the range reach up to them if they can
 *   mc_stack_above   how much can be read from here on
 *   mc_stack_read    one word, if it can be read, wherever it is
 *
 * Three kinds of stacks:
 *   main     ends at __libc_stack_end; the kernel keeps MAIN_ROOM below it free of other mappings
 *   thread   ends at the thread pointer, since libc puts a thread's own data on top of its stack.
 *            How far down it goes is learnt: one word of thread-local memory remembers the lowest
 *            page seen readable, contiguous up to the thread pointer; each page is probed once
 *   other    coroutines, alternate signal stacks: only the page of `sp` is taken for granted, the
 *            pages above are probed, each time anew, because such a stack may be unmapped between
 *            two walks and nobody would tell
 * The probe asks the kernel to read eight bytes: rt_sigprocmask with an invalid `how` copies the
 * new mask, then fails with EFAULT or EINVAL and changes nothing. It was chosen over
 * process_vm_readv, mincore and madvise because a seccomp filter that allows threads allows it,
 * where those are often refused and sometimes deadly. Under a filter that refuses it with an errno
 * value everything unknown counts as unreadable: walks stop early on such stacks, nothing else.
 *
 * Any thread, signal handlers; no locks. errno is not touched. */
#ifndef MC_UNWIND_STACK_H
#define MC_UNWIND_STACK_H

#include <stddef.h>
#include <stdint.h>

/* [low, high) is readable. Both are multiples of 8. */
struct mc_stack {
    uintptr_t low;
    uintptr_t high;
    int fixed; /* `high` is the end of the stack: there is nothing to be found above */
};

/* `sp` is a multiple of 8. `running`: this code runs on that very stack, below `sp`, so its page is
 * there. Otherwise the page is probed; when it can't be read the range is empty, with low > sp. */
void mc_stack_find(struct mc_stack *stack, uintptr_t sp, int running);

/* 0: all `size` bytes at `address` and all from stack->low up to them can be read; else EFAULT. Any
 * address may be asked for. */
int mc_stack_reach(struct mc_stack *stack, uintptr_t address, uintptr_t size);

/* How much can be read from `sp` on, on which this code runs: bytes, at most `most`. */
size_t mc_stack_above(uintptr_t sp, size_t most);

/* `size` <= 8 bytes; 0 or EFAULT. For the exact walk: slower than a range check. */
int mc_stack_read(struct mc_stack *stack, uintptr_t address, unsigned size, uintptr_t *value);

/* Is `address` the very end of the main stack? There the walk of the main thread ends. */
int mc_stack_is_main_end(uintptr_t address);

#endif
