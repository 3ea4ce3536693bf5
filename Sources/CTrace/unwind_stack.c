/* SPDX-License-Identifier: MIT */
/* What an unwinder may read (contract and reasons in unwind_stack.h). */
#include "unwind_stack.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "unwind_machine.h"

enum {
    PAGE = 4096,
    /* The kernel leaves at least this much below the top of the main stack to it alone (the gap
     * that mmap_base() keeps). Deeper stack pointers are treated as another stack. */
    MAIN_ROOM = 128 << 20,
    /* New pages of the thread's own stack that one walk may probe: 1 MiB of stack, about 20 us,
     * once. A walk that starts deeper treats the stack as another one, and the next walk goes
     * on. */
    PROBES_DOWN = 256,
    /* Pages one walk probes upwards on another stack. Bounds a walk led astray, not real ones. */
    PROBES_UP = 4096,
};

/* In the loader, known to it before the first instruction of the program. A weak reference, so that
 * the loader does not become a NEEDED. */
extern void *__libc_stack_end __attribute__((weak));

/* [owner] Lowest page of this thread's own stack known to be readable up to the thread pointer; 0:
 * nothing known. A signal handler may update it in the middle of an update: both values are
 * true. */
static _Thread_local uintptr_t own_low __attribute__((tls_model("initial-exec")));

/* [const] Thread pointer of the thread that loaded this library, the main thread for a preload:
 * below its own thread pointer there is no stack, but mappings that come and go. */
static uintptr_t main_thread;

__attribute__((constructor)) static void remember_main_thread(void)
{
    main_thread = mc_machine_thread_pointer();
}

static uintptr_t page_of(uintptr_t address)
{
    return address & ~(uintptr_t)(PAGE - 1);
}

int mc_stack_is_main_end(uintptr_t address)
{
    return &__libc_stack_end && address >= (uintptr_t)__libc_stack_end &&
           address - (uintptr_t)__libc_stack_end < PAGE;
}

/* Makes [sp, thread pointer) known; 0 when it is not one readable range. */
static int learn_own(uintptr_t sp, uintptr_t top)
{
    uintptr_t low = own_low ? own_low : page_of(top);
    for (unsigned i = 0; low > sp; i++) {
        if (i == PROBES_DOWN || !mc_machine_readable(low - PAGE)) break;
        low -= PAGE;
    }
    own_low = low;
    return low <= sp;
}

void mc_stack_find(struct mc_stack *stack, uintptr_t sp, int running)
{
    uintptr_t main_top = &__libc_stack_end ? (uintptr_t)__libc_stack_end : 0;
    uintptr_t own_top = mc_machine_thread_pointer();
    stack->low = page_of(sp);
    stack->fixed = 1;
    if (!running && !mc_machine_readable(sp)) {
        stack->low = UINTPTR_MAX;
        stack->high = UINTPTR_MAX;
    } else if (main_top && main_top - sp < MAIN_ROOM) {
        stack->high = main_top & ~(uintptr_t)7;
    } else if (sp < own_top && own_top != main_thread &&
               ((own_low && sp >= own_low) || learn_own(sp, own_top))) {
        stack->high = own_top & ~(uintptr_t)7;
    } else {
        stack->high = stack->low + PAGE;
        stack->fixed = 0;
    }
}

int mc_stack_reach(struct mc_stack *stack, uintptr_t address, uintptr_t size)
{
    uintptr_t end = address + size;
    if (address < stack->low || end < address) return EFAULT;
    if (end <= stack->high) return 0;
    if (stack->fixed || end - stack->high > (uintptr_t)PROBES_UP * PAGE) return EFAULT;
    while (stack->high < end) {
        if (!mc_machine_readable(stack->high)) return EFAULT;
        stack->high += PAGE;
    }
    return 0;
}

int mc_stack_read(struct mc_stack *stack, uintptr_t address, unsigned size, uintptr_t *value)
{
    uintptr_t last = address + size - 1;
    if (last < address) return EFAULT;
    int known = address >= stack->low && last < stack->high;
    if (!known && (!mc_machine_readable(address & ~(uintptr_t)7) ||
                   !mc_machine_readable(last & ~(uintptr_t)7)))
        return EFAULT;
    *value = 0;
    memcpy(value, (const void *)address, size);
    return 0;
}

__attribute__((noinline)) size_t mc_stack_above(uintptr_t sp, size_t most)
{
    struct mc_stack stack;
    mc_stack_find(&stack, sp, 1);
    while (stack.high - sp < most && !mc_stack_reach(&stack, stack.high, sizeof(uintptr_t))) {
    }
    size_t size = stack.high - sp;
    return size < most ? size : most;
}
