/* forks.c: cases about fork, vfork, clone and exec. glibc's malloc is usable in the child of any
 * fork(), also of a process with many threads ("malloc ... after fork", glibc manual 3.2.3.11). */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { CHURNERS = 3, KEPT = 500 };
static atomic_bool stop;
static atomic_int filled;
static char *kept[KEPT];

static void churn(unsigned rounds, uint64_t seed)
{
    enum { COUNT = 64 };
    void *p[COUNT] = {0};
    while (rounds-- > 0) {
        uint64_t r = random_next(&seed);
        free(p[r % COUNT]);
        p[r % COUNT] = malloc((r >> 20) % (rounds % 64 ? 2000 : 300000));
        REQUIRE(p[r % COUNT]);
    }
    for (int i = 0; i < COUNT; i++)
        free(p[i]);
}

static void *churn_until_stopped(void *seed)
{
    for (uint64_t round = (uintptr_t)seed; !atomic_load(&stop); round++)
        churn(200, round);
    return NULL;
}

static void keep_some(void)
{
    for (int i = 0; i < KEPT; i++) {
        kept[i] = malloc((size_t)i * 50 + 8);
        REQUIRE(kept[i]);
        pattern_fill(kept[i], 8, (unsigned)i);
    }
}

/* What a child must be able to do: everything. */
static void live_as_a_child(void *unused)
{
    alarm(PATIENCE);
    churn(300, 5);
    for (int i = 0; i < KEPT && kept[i]; i++) {
        REQUIRE(pattern_holds(kept[i], 8, (unsigned)i));
        if (i % 2) REQUIRE(kept[i] = realloc(kept[i], 3000));
        free(kept[i]);
    }
    void *thread_result = run_thread(churn_until_stopped, unused, 0);
    REQUIRE(!thread_result);
}

static void start(pthread_t *threads, void *(*body)(void *))
{
    for (uintptr_t i = 0; i < CHURNERS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, body, (void *)(i * 1000 + 1)) == 0);
}

static void join(pthread_t *threads)
{
    atomic_store(&stop, true);
    for (int i = 0; i < CHURNERS; i++)
        REQUIRE(pthread_join(threads[i], NULL) == 0);
}

static void child_of_churn(void *unused)
{
    atomic_store(&stop, true); /* its own thread shall end */
    live_as_a_child(unused);
}

CASE(fork_while_others_allocate, "the child allocates and frees the parent's blocks, 100 times; "
                                 "fork(2) NOTES, glibc manual 3.2.3.11")
{
    pthread_t threads[CHURNERS];
    keep_some();
    start(threads, churn_until_stopped);
    for (int i = 0; i < 100; i++)
        require_child(child_of_churn, NULL);
    join(threads);
}

static void *fork_from_thread(void *unused)
{
    for (int i = 0; i < 25; i++)
        require_child(child_of_churn, unused);
    return unused;
}

CASE(fork_from_several_threads, "fork from threads at the same time, while others allocate")
{
    pthread_t churners[CHURNERS], forkers[CHURNERS];
    keep_some();
    start(churners, churn_until_stopped);
    start(forkers, fork_from_thread);
    for (int i = 0; i < CHURNERS; i++)
        REQUIRE(pthread_join(forkers[i], NULL) == 0);
    join(churners);
}

static void *use_stdio(void *seed)
{
    FILE *in = fopen("/proc/self/maps", "r"), *out = fopen("/dev/null", "w");
    REQUIRE(in && out);
    (void)seed;
    while (!atomic_load(&stop)) {
        char *line = NULL;
        size_t size = 0;
        rewind(in);
        while (getline(&line, &size, in) > 0)
            fprintf(out, "%s %a\n", line, 1.5);
        free(line);
        fflush(NULL);
    }
    fclose(in);
    fclose(out);
    return NULL;
}

static void child_of_stdio(void *unused)
{
    atomic_store(&stop, true);
    live_as_a_child(unused);
    FILE *f = fopen("/dev/null", "w");
    REQUIRE(f && fprintf(f, "%d", 1) == 1);
    fflush(NULL);
    fclose(f);
}

CASE(fork_while_others_hold_stdio_locks,
     "fork takes the heap's and stdio's locks in glibc's order: "
     "no deadlock (glibc bug 4737)")
{
    pthread_t threads[CHURNERS];
    start(threads, use_stdio);
    for (int i = 0; i < 120; i++)
        require_child(child_of_stdio, NULL);
    join(threads);
}

static void allocate_in_handler(void)
{
    churn(50, 3);
}

CASE(atfork_handlers_allocate, "pthread_atfork handlers of all three kinds may allocate; "
                               "pthread_atfork(3)")
{
    for (int i = 0; i < 40; i++)
        REQUIRE(pthread_atfork(allocate_in_handler, allocate_in_handler, allocate_in_handler) == 0);
    pthread_t threads[CHURNERS];
    start(threads, churn_until_stopped);
    for (int i = 0; i < 30; i++)
        require_child(child_of_churn, NULL);
    join(threads);
}

static void fork_chain(void *depth)
{
    churn(100, 1);
    if ((uintptr_t)depth == 0) return;
    void *p = malloc(1000);
    require_child(fork_chain, (void *)((uintptr_t)depth - 1));
    free(p);
}

static void *volatile others_blocks[CHURNERS][200];

static void *fill_and_wait(void *which)
{
    for (size_t i = 0; i < 200; i++)
        others_blocks[(uintptr_t)which / 1000][i] = malloc(i * i);
    atomic_fetch_add(&filled, 1);
    while (!atomic_load(&stop))
        sched_yield();
    return NULL;
}

static void free_blocks_of_vanished_threads(void *unused)
{
    (void)unused;
    alarm(PATIENCE);
    for (int round = 0; round < 20; round++) {
        for (int t = 0; t < CHURNERS; t++) {
            for (size_t i = 0; i < 200; i++) {
                free(others_blocks[t][i]);
                others_blocks[t][i] = malloc(i * i);
                REQUIRE(others_blocks[t][i]);
            }
        }
    }
}

CASE(child_frees_blocks_of_vanished_threads,
     "threads of the parent do not exist in the child, their "
     "blocks do; fork(2)")
{
    pthread_t threads[CHURNERS];
    start(threads, fill_and_wait);
    while (atomic_load(&filled) < CHURNERS)
        sched_yield();
    for (int i = 0; i < 20; i++)
        require_child(free_blocks_of_vanished_threads, NULL);
    join(threads);
}

CASE(forks_may_nest, "a chain of 60 forks, each child allocating")
{
    require_child(fork_chain, (void *)60);
}

/* --- children glibc does not know of --------------------------------------------------------- */

static void require_raw_child(pid_t (*make)(void))
{
    pid_t child = make();
    REQUIRE(child >= 0);
    if (child == 0) {
        alarm(PATIENCE);
        churn(500, 9);
        for (int i = 0; i < KEPT; i++)
            free(kept[i]);
        _exit(0);
    }
    int status;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static pid_t raw_fork(void)
{
    return (pid_t)syscall(SYS_fork);
}

static pid_t raw_clone(void)
{
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

CASE(raw_fork_and_clone_children_allocate, "children made by the system call itself, of a process "
                                           "with one thread; clone(2)")
{
    keep_some();
    for (int i = 0; i < 50; i++) {
        require_raw_child(raw_fork);
        require_raw_child(raw_clone);
        churn(100, 2);
    }
}

CASE(bare_fork_children_allocate,
     "_Fork runs no handlers; of a process with one thread glibc's heap "
     "is usable after it; POSIX.1-2024 _Fork")
{
    keep_some();
    for (int i = 0; i < 50; i++) {
        require_raw_child(_Fork);
        churn(100, 2);
    }
}

static int clone_body(void *unused)
{
    (void)unused;
    churn(500, 4);
    for (int i = 0; i < KEPT; i++)
        free(kept[i]);
    return 0;
}

CASE(clone_with_a_stack_allocates, "clone() without CLONE_VM, on a stack of its own; clone(2)")
{
    size_t size = 65536;
    char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(stack != MAP_FAILED);
    keep_some();
    for (int i = 0; i < 20; i++) {
        int status;
        pid_t child = clone(clone_body, stack + size, SIGCHLD, NULL);
        REQUIRE(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    }
}

CASE(vfork_child_allocates_and_execs, "the child of vfork runs in the parent's memory: what it "
                                      "allocates is the parent's; vfork(2)")
{
    static void *volatile leaked;
    for (int i = 0; i < 100; i++) {
        void *volatile mine = malloc(200);
        pid_t child = vfork();
        REQUIRE(child >= 0);
        if (child == 0) {
            leaked = malloc(3000);
            free(mine);
            execl("/bin/true", "true", (char *)NULL);
            _exit(9);
        }
        int status;
        REQUIRE(waitpid(child, &status, 0) == child && status == 0);
        memset(leaked, 1, 3000);
        free(leaked);
        churn(50, 8);
    }
}

CASE(posix_spawn_works, "posix_spawn and posix_spawnp, while others allocate; posix_spawn(3)")
{
    pthread_t threads[CHURNERS];
    char *arguments[] = {(char *)"true", NULL};
    start(threads, churn_until_stopped);
    for (int i = 0; i < 60; i++) {
        pid_t child;
        int status;
        REQUIRE(posix_spawnp(&child, "true", NULL, NULL, arguments, environ) == 0);
        REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    }
    join(threads);
}

CASE(system_and_popen_work, "system(3), popen(3)")
{
    for (int i = 0; i < 10; i++) {
        REQUIRE(system("exit 3") == 3 << 8);
        FILE *pipe = popen("echo hello", "r");
        char *line = NULL;
        size_t size = 0;
        REQUIRE(pipe && getline(&line, &size, pipe) == 6 && strcmp(line, "hello\n") == 0);
        free(line);
        REQUIRE(pclose(pipe) == 0);
    }
}

/* --- fork from a handler --------------------------------------------------------------------- */

static volatile sig_atomic_t forked, fork_failed;

enum { FORKS = 300 };

/* Once more, some microseconds from now: set at the end of a handler, so that the program gets on
 * between two of them however long a fork takes. */
static void arm_timer(void)
{
    struct itimerval once = {{0, 0}, {0, 300 + forked * 7 % 400}};
    if (forked < FORKS) setitimer(ITIMER_REAL, &once, NULL);
}

/* glibc calls fork async-signal-safe up to 2.35's note; programs with one thread rely on it, e.g.
 * crash reporters. The child allocates, although the handler may have interrupted malloc. */
static void fork_in_handler(int signal)
{
    int saved = errno, status;
    pid_t child = fork();
    if (child == 0) {
        alarm(PATIENCE);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) fork_failed = 1;
    forked++;
    if (signal == SIGALRM) arm_timer();
    errno = saved;
}

static void churn_under_timer(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    arm_timer();
    for (uint64_t round = 0; forked < FORKS; round++)
        churn(1000, round);
}

CASE(fork_in_a_handler_that_interrupted_malloc, "fork from a signal handler of a one-threaded "
                                                "process ends; signal-safety(7)")
{
    churn_under_timer(fork_in_handler);
    REQUIRE(!fork_failed);
}

static void fork_and_allocate_in_handler(int signal)
{
    int saved = errno, status;
    pid_t child = fork();
    if (child == 0) {
        struct sigaction standard = {.sa_handler = SIG_DFL};
        sigaction(SIGALRM, &standard, NULL);
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_UNBLOCK, &all, NULL);
        alarm(PATIENCE);
        churn(200, 6);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) fork_failed = 1;
    forked++;
    if (signal == SIGALRM) arm_timer();
    errno = saved;
}

CASE_OURS(fork_in_a_handler_and_allocate, "and its child can allocate, although the handler "
                                          "interrupted malloc (glibc: may hang or crash)")
{
    churn_under_timer(fork_and_allocate_in_handler);
    REQUIRE(!fork_failed);
}

static void *fork_storm_thread(void *unused)
{
    for (int i = 0; i < 40; i++) {
        pthread_kill(pthread_self(), SIGUSR1);
        churn(100, (uintptr_t)i);
    }
    return unused;
}

CASE(fork_in_a_handler_of_any_thread, "fork from handlers in threads outside malloc, others "
                                      "allocating; fork(2)")
{
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    pthread_t threads[CHURNERS];
    start(threads, churn_until_stopped);
    run_thread(fork_storm_thread, NULL, 0);
    join(threads);
    REQUIRE(!fork_failed && forked == 40);
}
