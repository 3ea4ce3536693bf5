/* SPDX-License-Identifier: MIT */
/* Promises of unwind.h and unwind_stack.h that the oracle can't see: flags, slots, limits, epochs,
 * no system call where none is needed, no fault where memory is missing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "check.h"
#include "rules.h"
#include "unwind.h"
#include "unwind_exact.h"
#include "unwind_machine.h"
#include "unwind_stack.h"

enum { DEPTH = 200 };

static struct mc_frame_site frames[DEPTH];
static unsigned flags;
static size_t count;
static int sound;
static _Thread_local volatile unsigned sink;

/* To be asked while the frames are there: slots hold what was found in them, and go outwards. */
static int slots_are_sound(void)
{
    for (size_t i = 0; i < count; i++) {
        if (*(uintptr_t *)frames[i].slot != frames[i].pc) return 0;
        if (i && frames[i].slot <= frames[i - 1].slot) return 0;
    }
    return count > 0;
}

static __attribute__((noinline)) void capture(size_t max)
{
    struct mc_unwind_start start;
    MC_UNWIND_CAPTURE(&start);
    count = mc_unwind(&start, frames, max, &flags);
    sound = slots_are_sound();
    sink++;
}

static __attribute__((noinline)) void capture_exact(size_t max)
{
    struct mc_unwind_start start;
    MC_UNWIND_CAPTURE(&start);
    count = mc_unwind_exact(&start, 1, frames, max, &flags);
    sound = slots_are_sound();
    sink++;
}

static __attribute__((noinline)) void deep(unsigned depth, void (*last)(size_t), size_t max)
{
    if (depth)
        deep(depth - 1, last, max);
    else
        last(max);
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

static void knows_what_is_readable(void)
{
    char *map = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uintptr_t first = (uintptr_t)map, value;
    struct mc_stack stack;
    mprotect(map + 8192, 4096, PROT_NONE);
    CHECK(mc_machine_readable(first) && mc_machine_readable(first + 8184));
    CHECK(!mc_machine_readable(first + 8192) && mc_machine_readable(first + 12288));
    CHECK(!mc_machine_readable(0) && !mc_machine_readable(-(uintptr_t)8));
    mc_stack_find(&stack, first + 64, 0);
    CHECK(stack.low == first && stack.high == first + 4096 && !stack.fixed);
    CHECK(mc_stack_reach(&stack, first + 4096, 4096) == 0 && stack.high == first + 8192);
    CHECK(mc_stack_reach(&stack, first + 8190, 8) == EFAULT);
    CHECK(mc_stack_reach(&stack, first + 12288, 8) == EFAULT); /* a hole below */
    CHECK(mc_stack_reach(&stack, first - 8, 8) == EFAULT);
    CHECK(mc_stack_reach(&stack, -(uintptr_t)8, 16) == EFAULT);
    CHECK(mc_stack_reach(&stack, first, (uintptr_t)-1) == EFAULT);
    CHECK(mc_stack_read(&stack, first + 8, 8, &value) == 0 && value == 0);
    CHECK(mc_stack_read(&stack, first + 12288, 8, &value) == 0); /* one word, wherever it is */
    CHECK(mc_stack_read(&stack, first + 8188, 8, &value) == EFAULT);
    CHECK(mc_stack_read(&stack, -(uintptr_t)4, 8, &value) == EFAULT);
    CHECK(mc_stack_read(&stack, 8, 8, &value) == EFAULT);
    mc_stack_find(&stack, first + 8192 + 8, 0);
    CHECK(stack.low > first + 8192 + 8 && stack.high == stack.low);
    CHECK(mc_stack_reach(&stack, first + 12288, 8) == EFAULT);
    mc_stack_find(&stack, -(uintptr_t)8, 0);
    CHECK(stack.low > -(uintptr_t)8 && stack.high == stack.low);
    munmap(map, 4 * 4096);
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

static void forgets_at_the_end_of_an_epoch(void)
{
    struct mc_unwind_start start;
    MC_UNWIND_CAPTURE(&start);
    capture(DEPTH);
    CHECK(flags == MC_UNWIND_COMPLETE);
    size_t place = mc_rule_place(frames[0].pc), before = count;
    CHECK(mc_rule_is_data(mc_rule_at(place, frames[0].pc)) ||
          mc_rule_is_data(mc_rule_at(place ^ MC_RULE_OTHER_WAY, frames[0].pc)));
    mc_unwind_epoch_begin();
    capture(DEPTH);
    CHECK(flags == (MC_UNWIND_COMPLETE | MC_UNWIND_EXACT) && count == before);
    mc_unwind_epoch_begin();
    mc_unwind_epoch_end();
    capture(DEPTH);
    CHECK(flags & MC_UNWIND_EXACT); /* the outer one is not over */
    mc_unwind_epoch_end();
    for (size_t i = 0; i < MC_RULE_COUNT; i++)
        CHECK(mc_rule_is_data(mc_rule_table[i]) && mc_rule_kind(mc_rule_table[i]) == MC_RULE_EMPTY);
    capture(DEPTH);
    CHECK(flags == MC_UNWIND_COMPLETE && count == before);
}

static void *begin_an_epoch(void *argument)
{
    mc_unwind_epoch_begin();
    return argument;
}

static void starts_anew_in_a_forked_child(void)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, begin_an_epoch, NULL) == 0);
    pthread_join(thread, NULL);
    pid_t child = fork();
    if (child == 0) {
        mc_unwind_epoch_forked();
        capture(DEPTH);
        _exit(flags == MC_UNWIND_COMPLETE ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
    mc_unwind_epoch_end();
}

static _Atomic int racing;

static void *wipe_for_ever(void *argument)
{
    while (racing) {
        mc_unwind_epoch_begin();
        mc_unwind_epoch_end();
    }
    return argument;
}

/* Each with arrays of its own: `frames` is shared. */
static __attribute__((noinline)) size_t own_capture(struct mc_frame_site *own, unsigned depth,
                                                    unsigned *own_flags)
{
    if (depth) return own_capture(own, depth - 1, own_flags) + (sink & 0);
    struct mc_unwind_start start;
    MC_UNWIND_CAPTURE(&start);
    size_t n = mc_unwind(&start, own, DEPTH, own_flags);
    sink++;
    return n;
}

/* The loop may be peeled, so that its frame has more than one return address: it is left out. */
enum { COMPARED = 20 };

static void *compare_for_ever(void *argument)
{
    struct mc_frame_site first[DEPTH], now[DEPTH];
    unsigned now_flags;
    size_t wrong = 0, expected = own_capture(first, COMPARED, &now_flags);
    while (racing) {
        size_t got = own_capture(now, COMPARED, &now_flags);
        if (got != expected || !(now_flags & MC_UNWIND_COMPLETE) ||
            memcmp(first, now, COMPARED * sizeof *now))
            wrong++;
    }
    *(size_t *)argument = wrong;
    return NULL;
}

static void agrees_while_others_wipe(void)
{
    pthread_t threads[4];
    size_t wrong[4] = {0};
    racing = 1;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, i ? compare_for_ever : wipe_for_ever, &wrong[i]);
    usleep(400000);
    racing = 0;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK(wrong[1] + wrong[2] + wrong[3] == 0);
}

/* From here on only `allowed` system calls return; rt_sigprocmask gives EPERM, others kill. */
static int filter(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigprocmask, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void *walk_filtered(void *argument)
{
    deep(30, capture, DEPTH); /* learns this stack */
    if (argument == NULL && filter()) _exit(77);
    for (int i = 0; i < 20; i++) {
        deep(30, capture, DEPTH);
        if (flags != MC_UNWIND_COMPLETE || !sound) _exit(2);
    }
    _exit(0);
}

static int in_child(void (*run)(void))
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        run();
        _exit(1);
    }
    waitpid(child, &status, 0);
    return status;
}

static void filtered_main(void)
{
    walk_filtered(NULL);
}

static void filtered_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, walk_filtered, NULL);
    pthread_join(thread, NULL);
}

static void coroutine_filtered(void)
{
    if (filter()) _exit(77);
    deep(150, capture, DEPTH); /* crosses a page that may not be probed any more */
    _exit((flags & MC_UNWIND_STOPPED) && !(flags & MC_UNWIND_COMPLETE) ? 0 : 3);
}

static void filtered_coroutine(void)
{
    static char memory[65536];
    mc_machine_readable((uintptr_t)memory);
    getcontext(&coroutine);
    coroutine.uc_stack.ss_sp = memory;
    coroutine.uc_stack.ss_size = sizeof memory;
    coroutine.uc_link = NULL;
    makecontext(&coroutine, coroutine_filtered, 0);
    setcontext(&coroutine);
}

static void makes_no_system_calls_on_known_stacks(void)
{
    CHECK(in_child(filtered_main) == 0);
    CHECK(in_child(filtered_thread) == 0);
}

static void stops_early_where_probing_is_refused(void)
{
    CHECK(in_child(filtered_coroutine) == 0);
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
    TEST(knows_what_is_readable);
    TEST(survives_wrong_registers);
    TEST(forgets_at_the_end_of_an_epoch);
    TEST(starts_anew_in_a_forked_child);
    TEST(agrees_while_others_wipe);
    TEST(makes_no_system_calls_on_known_stacks);
    TEST(stops_early_where_probing_is_refused);
    return check_failed_tests != 0;
}
