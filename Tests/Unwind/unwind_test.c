/* SPDX-License-Identifier: MIT */
/* Promises of unwind.h that the oracle can't see: flags, slots, limits, stacks of all kinds. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "captured.h"
#include "check.h"
#include "unwind_exact.h"
#include "unwind_machine.h"

static __attribute__((noinline)) void capture_exact(size_t max)
{
    struct mc_unwind_start start;
    MC_UNWIND_CAPTURE(&start);
    count = mc_unwind_exact(&start, 1, frames, max, &flags);
    sound = slots_are_sound();
    sink++;
}

static void reaches_the_outermost_frame(void)
{
    capture(DEPTH);
    size_t shallow = count;
    CHECK(flags == MC_UNWIND_COMPLETE && sound);
    deep(40, capture, DEPTH);
    CHECK(flags == MC_UNWIND_COMPLETE && sound && count == shallow + 41);
    deep(40, capture_exact, DEPTH);
    CHECK(flags == (MC_UNWIND_COMPLETE | MC_UNWIND_EXACT) && sound);
    CHECK(count == shallow + 41);
}

static void cuts_at_max(void)
{
    deep(40, capture, 7);
    CHECK(flags == MC_UNWIND_CUT && count == 7 && sound);
    deep(40, capture, 0);
    CHECK(flags == MC_UNWIND_CUT && count == 0);
    capture(DEPTH);
    size_t all = count;
    capture(all);
    CHECK(flags == MC_UNWIND_COMPLETE && count == all); /* nothing was cut off */
    capture(all - 1);
    CHECK(flags == MC_UNWIND_CUT && count == all - 1);
    capture_exact(all);
    CHECK(flags == (MC_UNWIND_COMPLETE | MC_UNWIND_EXACT) && count == all);
    capture_exact(all - 1);
    CHECK(flags == (MC_UNWIND_CUT | MC_UNWIND_EXACT) && count == all - 1);
}

static void leaves_errno_alone(void)
{
    errno = 4711;
    capture(DEPTH);
    capture_exact(DEPTH);
    mc_machine_readable(0);
    mc_unwind_epoch_begin();
    mc_unwind_epoch_end();
    CHECK(errno == 4711);
}

static jmp_buf back;

static __attribute__((noinline, noreturn)) void never_returns(void)
{
    capture(DEPTH);
    longjmp(back, 1);
}

static __attribute__((noinline)) void ends_with_a_call(void)
{
    never_returns(); /* the return address is the first byte of what follows */
}

static void looks_up_the_call_not_the_return(void)
{
    capture(DEPTH);
    size_t here = count;
    if (setjmp(back) == 0) ends_with_a_call();
    CHECK(flags == MC_UNWIND_COMPLETE && count == here + 2 && sound);
}

static size_t handler_count, context_count;
static unsigned handler_flags, context_flags;
static uintptr_t interrupted, first_pc;
static int found_interrupted;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    interrupted = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    capture(DEPTH);
    handler_count = count, handler_flags = flags;
    found_interrupted = 0;
    for (size_t i = 0; i < count; i++) {
        if (frames[i].pc == interrupted + 1 && *(uintptr_t *)frames[i].slot == interrupted)
            found_interrupted++;
    }
    context_count = mc_unwind_context(context, frames, DEPTH, &context_flags);
    first_pc = frames[0].pc;
}

static void interrupt(int on_alternate_stack)
{
    static char alternate[65536];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    struct sigaction action = {.sa_sigaction = on_signal,
                               .sa_flags = SA_SIGINFO | (on_alternate_stack ? SA_ONSTACK : 0)};
    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &action, NULL);
    handler_count = 0;
    raise(SIGUSR1);
    CHECK(handler_flags == (MC_UNWIND_COMPLETE | MC_UNWIND_SIGNAL)); /* the fast walk can */
    CHECK(found_interrupted == 1);
    CHECK(context_flags == MC_UNWIND_COMPLETE && first_pc == interrupted + 1);
    CHECK(handler_count == context_count + 2); /* capture's caller and the trampoline */
}

static void crosses_signal_frames(void)
{
    interrupt(0);
    interrupt(1);
}

static ucontext_t resumer, coroutine;
static unsigned coroutine_depth;

static void in_coroutine(void)
{
    deep(coroutine_depth, capture, DEPTH);
}

/* `size` bytes between two unreadable pages; the coroutine has all of them, or all but a part at
 * the top, where its outermost frame would have lain. */
static void run_coroutine(size_t size, unsigned depth)
{
    char *map = mmap(NULL, size + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(map + 4096, size, PROT_READ | PROT_WRITE);
    getcontext(&coroutine);
    coroutine.uc_stack.ss_sp = map + 4096;
    coroutine.uc_stack.ss_size = size;
    coroutine.uc_link = &resumer;
    coroutine_depth = depth;
    makecontext(&coroutine, in_coroutine, 0);
    swapcontext(&resumer, &coroutine);
    munmap(map, size + 8192);
}

static void ends_with_its_coroutine(void)
{
    for (unsigned depth = 0; depth < 150; depth += 10) {
        run_coroutine(65536, depth);
        CHECK(flags == MC_UNWIND_COMPLETE && count == depth + 3 && sound);
    }
}

static void *in_thread(void *argument)
{
    for (unsigned depth = 0; depth < 150; depth += 30) {
        deep(depth, capture, DEPTH);
        CHECK(flags == MC_UNWIND_COMPLETE && sound && count >= depth + 4);
    }
    ends_with_its_coroutine();
    capture(DEPTH);
    CHECK(flags == MC_UNWIND_COMPLETE && sound);
    return argument;
}

static void walks_threads_of_all_kinds(void)
{
    pthread_t thread;
    pthread_attr_t attributes;
    CHECK(pthread_create(&thread, NULL, in_thread, NULL) == 0);
    pthread_join(thread, NULL);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    pthread_attr_setguardsize(&attributes, 0);
    CHECK(pthread_create(&thread, &attributes, in_thread, NULL) == 0);
    pthread_join(thread, NULL);
    void *memory = malloc(1 << 18);
    pthread_attr_setstack(&attributes, memory, 1 << 18);
    CHECK(pthread_create(&thread, &attributes, in_thread, NULL) == 0);
    pthread_join(thread, NULL);
    free(memory);
}

/* Every register is made to point in front of missing memory, at it, and at odd places. */
static void survives_wrong_registers(void)
{
    char *map = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uintptr_t hole = (uintptr_t)map + 8192;
    mprotect((void *)hole, 4096, PROT_NONE);
    const uintptr_t values[] = {0,
                                1,
                                8,
                                hole - 8,
                                hole - 16,
                                hole,
                                hole + 1,
                                hole - 3,
                                hole + 4096,
                                -16ul,
                                -8ul,
                                -1ul,
                                1ul << 47,
                                1ul << 63,
                                (uintptr_t)map,
                                (uintptr_t)survives_wrong_registers};
    enum { VALUES = sizeof values / sizeof *values };
    struct mc_unwind_start start;
    ucontext_t context;
    memset(map, 0x10, 8192);
    for (unsigned i = 0; i < 8192; i += 8)
        memcpy(map + i, &values[i / 8 % VALUES], sizeof(uintptr_t));
    MC_UNWIND_CAPTURE(&start);
    memset(&context, 0, sizeof context);
    for (unsigned i = 0; i < VALUES * VALUES * VALUES; i++) {
        context.uc_mcontext.gregs[REG_RIP] = (greg_t)(i % 7 ? start.pc : values[i % VALUES]);
        context.uc_mcontext.gregs[REG_RSP] = (greg_t)values[i / VALUES % VALUES];
        context.uc_mcontext.gregs[REG_RBP] = (greg_t)values[i / VALUES / VALUES];
        context.uc_mcontext.gregs[REG_RBX] = (greg_t)values[i % VALUES];
        count = mc_unwind_context(&context, frames, DEPTH, &flags);
        CHECK(count >= 1 && count <= DEPTH);
        CHECK(flags & (MC_UNWIND_COMPLETE | MC_UNWIND_CUT | MC_UNWIND_STOPPED));
    }
    munmap(map, 4 * 4096);
}

/* Interrupted at a push of rbp that is not its function's first instruction, as in hand-written code. */
static void guesses_behind_calls_only(void)
{
    unsigned char *code =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uintptr_t pushed[4] = {0}, caller = (uintptr_t)__builtin_return_address(0);
    ucontext_t context;
    memset(code, 0x90, 4096);
    memcpy(code + 64, (unsigned char[]){0x53, 0x55}, 2); /* push %rbx; push %rbp */
    memset(&context, 0, sizeof context);
    context.uc_mcontext.gregs[REG_RIP] = (greg_t)(code + 65);
    context.uc_mcontext.gregs[REG_RSP] = (greg_t)pushed;
    pushed[0] = (uintptr_t)guesses_behind_calls_only; /* what rbx had */
    pushed[1] = caller;
    count = mc_unwind_context(&context, frames, DEPTH, &flags);
    CHECK(count == 1 && flags == (MC_UNWIND_COMPLETE | MC_UNWIND_GUESSED));
    pushed[0] = caller;
    count = mc_unwind_context(&context, frames, DEPTH, &flags);
    CHECK(count > 1 && frames[1].pc == caller && frames[1].slot == (uintptr_t)pushed);
    munmap(code, 4096);
}

int main(void)
{
    TEST(reaches_the_outermost_frame);
    TEST(cuts_at_max);
    TEST(leaves_errno_alone);
    TEST(looks_up_the_call_not_the_return);
    TEST(crosses_signal_frames);
    TEST(ends_with_its_coroutine);
    TEST(walks_threads_of_all_kinds);
    TEST(survives_wrong_registers);
    TEST(guesses_behind_calls_only);
    return check_failed_tests != 0;
}
