/* SPDX-License-Identifier: MIT */
/* Promises of unwind_stack.h: no fault where memory is missing, no system call where none is needed. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "captured.h"
#include "check.h"
#include "unwind_machine.h"
#include "unwind_stack.h"

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
    static ucontext_t coroutine;
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
    TEST(knows_what_is_readable);
    TEST(makes_no_system_calls_on_known_stacks);
    TEST(stops_early_where_probing_is_refused);
    return check_failed_tests != 0;
}
