/* signals.c: cases about handlers that interrupt the heap. The handlers do not allocate: malloc is
 * not on the list of signal-safety(7). */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static void work(unsigned rounds)
{
    enum { COUNT = 128 };
    char *p[COUNT] = {0};
    size_t size[COUNT] = {0};
    uint64_t state = rounds;
    for (; rounds > 0; rounds--) {
        unsigned at = (unsigned)(random_next(&state) % COUNT);
        REQUIRE(pattern_holds(p[at], size[at], at));
        free(p[at]);
        size[at] = random_next(&state) % (rounds % 100 ? 600 : 400000);
        p[at] = rounds % 3 ? malloc(size[at]) : calloc(1, size[at]);
        REQUIRE(p[at]);
        pattern_fill(p[at], size[at], at);
    }
    for (unsigned at = 0; at < COUNT; at++) {
        REQUIRE(pattern_holds(p[at], size[at], at));
        free(p[at]);
    }
}

static volatile sig_atomic_t handled;
static volatile long period; /* microseconds to the next SIGALRM; 0: none */

/* Once, set anew at the end of each handler: the program gets on between two of them however long
 * the kernel takes to deliver one. */
static void arm_timer(void)
{
    struct itimerval once = {{0, 0}, {0, period}};
    setitimer(ITIMER_REAL, &once, NULL);
}

static void count_signal(int number)
{
    handled++;
    if (number == SIGALRM && period) arm_timer();
}

/* No SA_RESTART: a system call of the heap's that is interrupted must be made again by the heap. */
static void handle(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_flags = flags};
    action.sa_handler = handler;
    REQUIRE(sigaction(number, &action, NULL) == 0);
}

static void signal_every(long microseconds)
{
    period = microseconds;
    arm_timer();
}

CASE(signals_interrupt_malloc, "20,000 handlers within malloc and free do no harm; no EINTR shows")
{
    handle(SIGALRM, count_signal, 0);
    handle(SIGPROF, count_signal, 0);
    struct itimerval often = {{0, 1000}, {0, 1000}};
    REQUIRE(setitimer(ITIMER_PROF, &often, NULL) == 0);
    signal_every(53);
    double end = seconds_now() + 20;
    while (handled < 20000 && seconds_now() < end) {
        errno = 0;
        work(2000);
        REQUIRE(errno == 0);
    }
    signal_every(0);
    REQUIRE(setitimer(ITIMER_PROF, &(struct itimerval){0}, NULL) == 0);
    REQUIRE(handled > 0);
}

static atomic_bool stop;

static void *work_until_stopped(void *unused)
{
    while (!atomic_load(&stop))
        work(500);
    return unused;
}

CASE(signals_storm_threads, "pthread_kill to threads in malloc; pthread_kill(3)")
{
    enum { COUNT = 3 };
    pthread_t thread[COUNT];
    handle(SIGUSR1, count_signal, 0);
    for (int i = 0; i < COUNT; i++)
        REQUIRE(pthread_create(&thread[i], NULL, work_until_stopped, NULL) == 0);
    for (int i = 0; i < 30000; i++) {
        REQUIRE(pthread_kill(thread[i % COUNT], SIGUSR1) == 0);
        if (i % 64 == 0) sched_yield();
    }
    atomic_store(&stop, true);
    for (int i = 0; i < COUNT; i++)
        REQUIRE(pthread_join(thread[i], NULL) == 0);
    REQUIRE(handled > 0);
}

CASE(handlers_run_on_a_small_alternate_stack, "malloc interrupted by a handler on MINSIGSTKSZ; "
                                              "sigaltstack(2)")
{
    static char space[65536];
    stack_t stack = {.ss_sp = space, .ss_size = (size_t)sysconf(_SC_MINSIGSTKSZ) + 1024};
    REQUIRE(sigaltstack(&stack, NULL) == 0);
    handle(SIGALRM, count_signal, SA_ONSTACK);
    signal_every(200);
    for (int i = 0; i < 100 || (handled < 500 && i < 5000); i++)
        work(1000);
    signal_every(0);
    REQUIRE(handled > 0);
}

CASE(malloc_works_in_a_synchronous_handler,
     "raise() outside malloc: its handler may allocate, also on "
     "an alternate stack; signal-safety(7)")
{
    static char space[65536];
    stack_t stack = {.ss_sp = space, .ss_size = sizeof space};
    REQUIRE(sigaltstack(&stack, NULL) == 0);
    extern void allocate_in_signal(int);
    handle(SIGUSR2, allocate_in_signal, SA_ONSTACK);
    for (int i = 0; i < 200; i++)
        REQUIRE(raise(SIGUSR2) == 0);
}

void allocate_in_signal(int number)
{
    (void)number;
    work(100);
}

static char *guarded;
static sigjmp_buf out;

static void leave(int number)
{
    siglongjmp(out, number);
}

CASE(siglongjmp_out_of_a_fault,
     "a fault outside malloc left by siglongjmp harms no heap; sigsetjmp(3)")
{
    guarded = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(guarded != MAP_FAILED);
    handle(SIGSEGV, leave, 0);
    for (volatile int i = 0; i < 1000; i++) {
        void *volatile p = malloc(100);
        if (sigsetjmp(out, 1) == 0) {
            *(volatile char *)guarded = 1;
            REQUIRE(!"no fault");
        }
        free(p);
        if (i % 50 == 0) work(100);
    }
}

static atomic_int timer_calls;

static void notify(union sigval value)
{
    free(malloc((size_t)value.sival_int));
    atomic_fetch_add(&timer_calls, 1);
}

CASE(timer_threads_allocate, "SIGEV_THREAD: libc makes threads with all signals blocked; "
                             "timer_create(2)")
{
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_value.sival_int = 1000};
    event.sigev_notify_function = notify;
    REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    struct itimerspec often = {{0, 1000000}, {0, 1000000}};
    REQUIRE(timer_settime(timer, 0, &often, NULL) == 0);
    double end = seconds_now() + PATIENCE;
    while (atomic_load(&timer_calls) < 50 && seconds_now() < end)
        work(200);
    timer_delete(timer);
    REQUIRE(atomic_load(&timer_calls) > 0);
}

CASE(blocked_signals_stay_blocked, "malloc changes no signal mask and loses no pending signal; "
                                   "sigprocmask(2)")
{
    sigset_t all, mask, pending;
    handle(SIGUSR1, count_signal, 0);
    sigfillset(&all);
    REQUIRE(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
    raise(SIGUSR1);
    work(5000);
    REQUIRE(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1) == 1 && handled == 0);
    REQUIRE(sigprocmask(SIG_SETMASK, NULL, &mask) == 0);
    for (int number = 1; number < 32; number++)
        REQUIRE(sigismember(&mask, number) == (number != SIGKILL && number != SIGSTOP));
    sigemptyset(&all);
    REQUIRE(sigprocmask(SIG_SETMASK, &all, NULL) == 0 && handled == 1);
}
