/* seccomp.c: cases about processes that restrict their own system calls. Whatever the filter, the
 * heap makes no call for which it kills. */
/* SPDX-License-Identifier: MIT */
#include "filters.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void *use_in_thread(void *unused)
{
    use_all_sizes();
    return unused;
}

static const int needed_by_glibc[] = {SYS_read,     SYS_write,  SYS_exit,   SYS_exit_group,
                                      SYS_mmap,     SYS_munmap, SYS_mremap, SYS_madvise,
                                      SYS_mprotect, SYS_brk,    SYS_futex,  SYS_rt_sigreturn};

static void use_under_a_filter(void *otherwise)
{
    install_filter(needed_by_glibc, COUNT_OF(needed_by_glibc), (unsigned)(uintptr_t)otherwise);
    use_all_sizes();
}

CASE(seccomp_kill_filter, "a filter of what glibc's malloc needs kills nobody, heap used before; "
                          "seccomp(2)")
{
    use_all_sizes();
    require_child(use_under_a_filter, (void *)(uintptr_t)SECCOMP_RET_KILL_PROCESS);
}

/* glibc asks getrandom() for a key at the first call. */
CASE_OURS(seccomp_kill_filter_before_first_use,
          "the same when the filter comes before any malloc, in "
          "the process itself and in a child")
{
    require_child(use_under_a_filter, (void *)(uintptr_t)SECCOMP_RET_KILL_PROCESS);
    use_under_a_filter((void *)(uintptr_t)SECCOMP_RET_KILL_PROCESS);
}

CASE(seccomp_enosys_filter, "other system calls answered by ENOSYS are done without")
{
    require_child(use_under_a_filter, (void *)(uintptr_t)(SECCOMP_RET_ERRNO | ENOSYS));
    require_child(use_under_a_filter, (void *)(uintptr_t)(SECCOMP_RET_ERRNO | EPERM));
}

static void use_without_madvise(void *unused)
{
    static const int fewer[] = {SYS_read, SYS_write,  SYS_exit,        SYS_exit_group,
                                SYS_mmap, SYS_munmap, SYS_mremap,      SYS_mprotect,
                                SYS_brk,  SYS_futex,  SYS_rt_sigreturn};
    (void)unused;
    install_filter(fewer, COUNT_OF(fewer), SECCOMP_RET_ERRNO | EPERM);
    use_all_sizes();
    /* Pages that could not be dropped are dirty: calloc must know. */
    for (size_t n = 64; n <= (size_t)4 << 20; n *= 2) {
        char *p = malloc(n);
        REQUIRE(p);
        memset(p, 0xA5, n);
        free(p);
        malloc_trim(0);
        p = calloc(1, n);
        REQUIRE(p && all_zero(p, n));
        memset(p, 0xA5, n);
        free(p);
    }
}

CASE(seccomp_refused_madvise, "calloc's memory is zero also where madvise is refused")
{
    require_child(use_without_madvise, NULL);
}

static void use_in_threads_under_a_filter(void *unused)
{
    static const int threads_too[] = {SYS_read,
                                      SYS_write,
                                      SYS_exit,
                                      SYS_exit_group,
                                      SYS_mmap,
                                      SYS_munmap,
                                      SYS_mremap,
                                      SYS_madvise,
                                      SYS_mprotect,
                                      SYS_brk,
                                      SYS_futex,
                                      SYS_rt_sigreturn,
                                      SYS_clone,
                                      SYS_clone3,
                                      SYS_set_robust_list,
                                      SYS_rseq,
                                      SYS_rt_sigprocmask,
                                      SYS_getrandom,
                                      SYS_sched_getaffinity,
                                      SYS_rt_sigaction};
    (void)unused;
    install_filter(threads_too, COUNT_OF(threads_too), SECCOMP_RET_KILL_PROCESS);
    for (int i = 0; i < 5; i++)
        run_thread(use_in_thread, NULL, 0);
}

/* glibc's heap opens /proc/sys/vm/overcommit_memory when a thread's arena shrinks. */
CASE_OURS(seccomp_threads, "threads under a filter of what threads themselves need")
{
    require_child(use_in_threads_under_a_filter, NULL);
}

static void *write_a_byte(void *fd)
{
    free(malloc(100));
    REQUIRE(write((int)(uintptr_t)fd, "x", 1) == 1);
    return NULL;
}

static void live_in_strict_mode(void *fd)
{
    /* mode 1 allows read, write, exit and sigreturn: a heap that has memory can serve. */
    void *p[100];
    for (int i = 0; i < 1000; i++)
        free(malloc(200));
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) _exit(STATUS_SKIPPED);
    for (int i = 0; i < 100; i++)
        p[i] = malloc(20);
    for (int i = 0; i < 100; i++)
        free(p[i]);
    write_a_byte(fd);
    syscall(SYS_exit, 0);
}

CASE(seccomp_strict_mode,
     "small blocks from memory at hand need no system call but write; seccomp(2)")
{
    int fd = open("/dev/null", O_WRONLY);
    REQUIRE(fd >= 0);
    require_child(live_in_strict_mode, (void *)(uintptr_t)fd);
}

/* --- filters that leave out what heaps usually do ---------------------------------------------- */

static const int least[] = {SYS_read, SYS_write,  SYS_exit,  SYS_exit_group,
                            SYS_mmap, SYS_munmap, SYS_futex, SYS_rt_sigreturn};

static void use_under_the_least(void *unused)
{
    (void)unused;
    install_filter(least, COUNT_OF(least), SECCOMP_RET_KILL_PROCESS);
    use_all_sizes();
    for (int i = 0; i < 3; i++)
        use_all_sizes();
}

/* glibc's heap grows by brk(2) and commits by mprotect(2). */
CASE_OURS(seccomp_least_filter, "read, write, exit, mmap, munmap and futex are enough, heap used "
                                "before or not, in the process itself and in children")
{
    require_child(use_under_the_least, NULL);
    use_all_sizes();
    require_child(use_under_the_least, NULL);
    use_under_the_least(NULL);
}

/* By a descriptor that was opened before the filter came, and is at the start of the file. */
static size_t resident_by(int statm)
{
    char text[128] = "";
    REQUIRE(read(statm, text, sizeof text - 1) > 0);
    return strtoul(strchr(text, ' '), NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

static void return_memory_under(const int *allowed, size_t count)
{
    enum { COUNT = 2000 };
    static char *p[COUNT];
    size_t size = 100000;
    int statm = open("/proc/self/statm", O_RDONLY), earlier = open("/proc/self/statm", O_RDONLY);
    REQUIRE(statm >= 0 && earlier >= 0);
    size_t before = resident_by(earlier);
    install_filter(allowed, count, SECCOMP_RET_KILL_PROCESS);
    for (int i = 0; i < COUNT; i++) {
        REQUIRE(p[i] = malloc(size));
        memset(p[i], 1, size);
    }
    for (int i = 0; i < COUNT; i++)
        free(p[i]);
    malloc_trim(0);
    for (int i = 0; i < 100; i++) {
        char *q = calloc(1, size * 20);
        REQUIRE(q && all_zero(q, size * 20));
        memset(q, 1, size * 20);
        free(q);
    }
    malloc_trim(0);
    size_t now = resident_by(statm);
    if (now > before + ((size_t)40 << 20)) dprintf(2, "%zu MiB more;", (now - before) >> 20);
    REQUIRE(now < before + ((size_t)40 << 20));
}

static void return_memory(void *unused)
{
    (void)unused;
    return_memory_under(least, COUNT_OF(least));
}

CASE_OURS(seccomp_least_memory_goes_back, "freed memory goes back without madvise, and is zero "
                                          "when calloc finds it again")
{
    require_child(return_memory, NULL);
}

/* Without munmap freed memory can only stay; without mmap there can be no more. */
static void live_without_munmap(void *unused)
{
    static const int fewer[] = {SYS_read, SYS_write, SYS_exit, SYS_exit_group, SYS_mmap, SYS_futex};
    (void)unused;
    char *huge = malloc((size_t)40 << 20);
    REQUIRE(huge);
    install_filter(fewer, COUNT_OF(fewer), SECCOMP_RET_KILL_PROCESS);
    free(huge);
    use_all_sizes();
}

static void live_without_mmap(void *unused)
{
    static const int fewer[] = {SYS_read, SYS_write, SYS_exit, SYS_exit_group, SYS_futex};
    (void)unused;
    free(malloc(100));
    install_filter(fewer, COUNT_OF(fewer), SECCOMP_RET_KILL_PROCESS);
    errno = 0;
    REQUIRE(!malloc((size_t)100 << 20) && errno == ENOMEM);
    size_t count = 0;
    static void *p[1 << 16];
    while (count < COUNT_OF(p) && (p[count] = malloc(10000)))
        count++;
    REQUIRE(errno == ENOMEM && count > 0);
    while (count > 0)
        free(p[--count]);
    REQUIRE(p[0] = malloc(10000));
    free(p[0]);
}

CASE_OURS(seccomp_without_munmap, "a filter without munmap: nothing goes back, nobody is killed")
{
    require_child(live_without_munmap, NULL);
}

CASE_OURS(seccomp_without_mmap, "a filter without mmap: ENOMEM when there is no more memory")
{
    require_child(live_without_mmap, NULL);
}

static void run_out_in_strict_mode(void *unused)
{
    (void)unused;
    free(malloc(100));
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) syscall(SYS_exit, STATUS_SKIPPED);
    int right = !malloc((size_t)100 << 20) && errno == ENOMEM;
    free(malloc(100));
    syscall(SYS_exit, right ? 0 : STATUS_FAILED);
}

CASE_OURS(seccomp_strict_mode_runs_out, "malloc fails with ENOMEM when strict mode allows no more "
                                        "memory")
{
    require_child(run_out_in_strict_mode, NULL);
}

/* --- filters that do not come ------------------------------------------------------------------ */

/* What restricted the heap once would leave its memory where it is. */
static void require_unrestricted(void)
{
    enum { COUNT = 1000 };
    static char *p[COUNT];
    size_t before = resident_bytes();
    for (int i = 0; i < COUNT; i++) {
        REQUIRE(p[i] = malloc(40000));
        memset(p[i], 1, 40000);
    }
    for (int i = 0; i < COUNT; i++)
        free(p[i]);
    malloc_trim(0);
    REQUIRE(resident_bytes() < before + ((size_t)8 << 20));
}

CASE(seccomp_refused_filters,
     "asking for filters that lie nowhere or are none: EFAULT, EINVAL, and "
     "nothing changes; seccomp(2)")
{
    struct sock_filter program[FILTER_SIZE], endless = BPF_STMT(BPF_LD | BPF_IMM, 0);
    struct sock_fprog filter = make_filter(program, least, COUNT_OF(least), 0);
    struct sock_fprog bad[] = {
        {1, NULL}, {4, (struct sock_filter *)16}, {1, &endless}, {0, program}, {60000, program}};
    REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    void *nowhere[] = {NULL, (void *)8, (void *)-8, (void *)(uintptr_t)0xffff800000000000};
    for (size_t i = 0; i < COUNT_OF(nowhere); i++) {
        REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, nowhere[i]) == -1 && errno == EFAULT);
        REQUIRE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, nowhere[i]) == -1 &&
                errno == EFAULT);
        REQUIRE(syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, nowhere[i], 0, 0) == -1 &&
                errno == EFAULT);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &bad[i]) == -1);
    REQUIRE(prctl(PR_SET_SECCOMP, 77, &filter) == -1 && errno == EINVAL);
    REQUIRE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 1ul << 30, &filter) == -1 &&
            errno == EINVAL);
    require_unrestricted();
}

static int guest(void *unused)
{
    struct sock_filter program[FILTER_SIZE];
    struct sock_fprog filter = make_filter(program, least, COUNT_OF(least), SECCOMP_RET_KILL);
    (void)unused;
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0;
}

CASE(seccomp_in_a_vfork_child, "a child that shares the memory restricts itself alone; vfork(2)")
{
    static char stack[65536];
    int status;
    pid_t child = clone(guest, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    if (WEXITSTATUS(status) != 0) SKIP("no seccomp filters here");
    require_unrestricted();
}

/* --- several threads, several filters, children ------------------------------------------------ */

static atomic_bool stop;
static atomic_int running;

/* Small and large, so that memory is committed, purged and resized all the time. */
static void use_some_sizes(void)
{
    for (size_t n = 16; n <= (size_t)12 << 20; n *= 4) {
        char *p = malloc(n), *q = realloc(calloc(1, n / 2), n);
        REQUIRE(p && q);
        p[n - 1] = q[n - 1] = 1;
        free(p);
        free(q);
    }
    malloc_trim(0);
}

static void *use_until_stopped(void *unused)
{
    atomic_fetch_add(&running, 1);
    while (!atomic_load(&stop))
        use_some_sizes();
    return unused;
}

static void restrict_all_threads(void *unused)
{
    enum { COUNT = 4 };
    pthread_t thread[COUNT];
    struct sock_filter program[FILTER_SIZE];
    /* Ended by exit_group: the end of a thread takes more. */
    struct sock_fprog filter =
        make_filter(program, least, COUNT_OF(least), SECCOMP_RET_KILL_PROCESS);
    for (int i = 0; i < COUNT; i++)
        REQUIRE(pthread_create(&thread[i], NULL, use_until_stopped, unused) == 0);
    while (atomic_load(&running) < COUNT) /* a thread's start takes other calls */
        sched_yield();
    use_some_sizes();
    REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) != 0)
        SKIP("no seccomp filters for all threads here");
    for (int i = 0; i < 20; i++)
        use_some_sizes();
}

CASE_OURS(seccomp_all_threads_at_once, "a filter that comes over threads in the middle of malloc "
                                       "kills none; seccomp(2) TSYNC")
{
    for (int i = 0; i < 10; i++)
        require_child(restrict_all_threads, NULL);
}

static void stack_filters(void *unused)
{
    static const int more[] = {SYS_read,          SYS_write,   SYS_exit,  SYS_exit_group,
                               SYS_mmap,          SYS_munmap,  SYS_futex, SYS_rt_sigreturn,
                               SYS_mprotect,      SYS_madvise, SYS_prctl, SYS_seccomp,
                               SYS_rt_sigprocmask};
    install_filter(more, COUNT_OF(more), SECCOMP_RET_ERRNO | EPERM);
    use_all_sizes();
    install_filter(more, COUNT_OF(more) - 1, SECCOMP_RET_KILL_PROCESS);
    use_all_sizes();
    use_under_the_least(unused); /* no asking the kernel any more: see above */
}

CASE_OURS(seccomp_filters_stack, "each filter may take away more")
{
    require_child(stack_filters, NULL);
}

static void fork_under_a_filter(void *unused)
{
    static const int forking[] = {SYS_read,
                                  SYS_write,
                                  SYS_exit,
                                  SYS_exit_group,
                                  SYS_mmap,
                                  SYS_munmap,
                                  SYS_futex,
                                  SYS_rt_sigreturn,
                                  SYS_clone,
                                  SYS_wait4,
                                  SYS_set_robust_list,
                                  SYS_rseq,
                                  SYS_rt_sigprocmask};
    (void)unused;
    install_filter(forking, COUNT_OF(forking), SECCOMP_RET_KILL_PROCESS);
    for (int i = 0; i < 5; i++) {
        use_all_sizes();
        pid_t child = fork();
        if (child == 0) {
            for (int round = 0; round < 3; round++)
                use_all_sizes();
            _exit(0);
        }
        int status;
        REQUIRE(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    }
}

CASE_OURS(seccomp_fork_under_a_filter,
          "children inherit the filter and go on; they make no call of "
          "their own either")
{
    require_child(fork_under_a_filter, NULL);
}
