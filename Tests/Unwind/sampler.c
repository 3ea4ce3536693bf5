/* SPDX-License-Identifier: MIT */
/* The oracle: preloaded into a program, it interrupts it at random instructions, and at calls of
 * malloc, and compares our backtrace with libunwind's, frame by frame: return address and CFA.
 *
 * Each sample makes four walks: ours fast, ours exact, libunwind's, and one of ours from registers
 * with one of them damaged, whose only promise is not to fault. One thread samples at a time:
 * libunwind takes the loader's lock, which another interrupted thread may hold.
 *
 * A difference is written to the log with both stacks and the memory map. Differences that are
 * known errors of libunwind are recognised in excuse(), each by the exact circumstances that
 * docs/unwinding.md argues; everything else counts.
 *
 * Environment: UNWIND_TALLY the shared counters, UNWIND_LOG where differences go, UNWIND_PERIOD_US
 * the time between two interruptions of a thread, UNWIND_MALLOC_EVERY one in how many malloc
 * calls. */
#define _GNU_SOURCE
#define UNW_LOCAL_ONLY
#include "sampler.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libunwind.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "trail_readings.h"
#include "unwind.h"
#include "unwind_exact.h"

enum { DEPTH = 256, SIGNAL = SIGPROF, LOGGED = 40 };

static struct tally *tally;
static int log_fd = -1;
static long period_us = 400;
static long malloc_every;
static __thread int inside __attribute__((tls_model("initial-exec")));
static __thread unsigned long turn __attribute__((tls_model("initial-exec")));
static __thread timer_t timer __attribute__((tls_model("initial-exec")));
static __thread int timed __attribute__((tls_model("initial-exec")));
static int sampling;

/* Only one thread samples at a time, so the big arrays may be static. */
static struct mc_frame_site ours[DEPTH], again[DEPTH];

static void report(const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (size > (int)sizeof line) size = sizeof line;
    if (write(log_fd, line, (size_t)size) < 0) return;
}

static void report_maps(void)
{
    static char buffer[4096];
    ssize_t size;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    report("maps of process %d\n", (int)getpid());
    while (fd >= 0 && (size = read(fd, buffer, sizeof buffer)) > 0)
        if (write(log_fd, buffer, (size_t)size) < 0) break;
    if (fd >= 0) close(fd);
}

static int in_a_module(uintptr_t address)
{
    struct dl_find_object module;
    return _dl_find_object((void *)address, &module) == 0;
}

#include "theirs.h"

#include "excuses.h"

static void log_difference(const char *kind, const ucontext_t *context, size_t count,
                           unsigned flags, size_t at)
{
    static int logged, mapped;
    if (__atomic_fetch_add(&logged, 1, __ATOMIC_RELAXED) >= LOGGED) return;
    report("%s: at %zu, ours %zu frames flags %x, theirs %d ended %d", kind, at, count, flags,
           theirs.count, theirs.ended);
    if (context)
        report(", pc %llx sp %llx bp %llx", context->uc_mcontext.gregs[REG_RIP],
               context->uc_mcontext.gregs[REG_RSP], context->uc_mcontext.gregs[REG_RBP]);
    report("\n");
    for (size_t i = 0; i < count || i < (size_t)theirs.count; i++) {
        Dl_info info = {0};
        uintptr_t pc = i < count ? ours[i].pc : theirs.pc[i];
        if (in_a_module(pc)) dladdr((void *)(pc - 1), &info);
        report(" %c %2zu", i == at ? '>' : ' ', i);
        if (i < count) report(" ours %lx cfa %lx", ours[i].pc, ours[i].slot + 8);
        if (i < (size_t)theirs.count) report(" theirs %lx cfa %lx", theirs.pc[i], theirs.cfa[i]);
        report(" %s+%lx %s\n", info.dli_fname ? info.dli_fname : "?",
               info.dli_fbase ? pc - 1 - (uintptr_t)info.dli_fbase : 0,
               info.dli_sname ? info.dli_sname : "");
    }
    if (!mapped++) report_maps();
}

/* Ours against theirs, whose first `skip` frames ours leaves out. */
static void compare(const ucontext_t *context, size_t count, unsigned flags, int skip)
{
    struct theirs *t = &theirs;
    size_t their_count = t->count > skip ? (size_t)(t->count - skip) : 0, i;
    memmove(t->pc, t->pc + skip, their_count * sizeof *t->pc);
    memmove(t->cfa, t->cfa + skip, their_count * sizeof *t->cfa);
    memmove(t->interrupted, t->interrupted + skip, their_count);
    if (their_count > DEPTH) their_count = DEPTH;
    t->count = (int)their_count;
    tally->stacks++;
    tally->complete += flags & MC_UNWIND_COMPLETE ? 1 : 0;
    tally->cut += flags & MC_UNWIND_CUT ? 1 : 0;
    tally->stopped += flags & MC_UNWIND_STOPPED ? 1 : 0;
    for (int bit = 0; bit < 3; bit++)
        tally->why[bit] += flags & (unsigned)MC_UNWIND_NO_INFO << bit ? 1 : 0;
    tally->exact += flags & MC_UNWIND_EXACT ? 1 : 0;
    tally->signals += flags & MC_UNWIND_SIGNAL ? 1 : 0;
    if (count > tally->deepest) tally->deepest = count;
    for (i = 0; i < count && i < their_count; i++) {
        if (ours[i].pc != t->pc[i] ||
            (ours[i].slot && ours[i].slot + 8 != t->cfa[i] && !t->interrupted[i]))
            break;
        tally->frames++;
        if (flags & MC_UNWIND_GUESSED && !in_a_module(ours[i].pc - 1)) {
            tally->guessed++; /* from here on both only guess */
            if (getenv("UNWIND_SHOW_STOPS")) log_difference("guess", context, count, flags, i);
            return;
        }
    }
    if (i == count && i == their_count) {
        if (flags & MC_UNWIND_STOPPED && getenv("UNWIND_SHOW_STOPS"))
            log_difference("stop", context, count, flags, i);
        return;
    }
    int which = excuse(context, count, flags, i);
    if (which) {
        tally->excused++;
        tally->excuse[which]++;
    } else {
        tally->differences++;
        log_difference("difference", context, count, flags, i);
    }
}

static void compare_walks(const ucontext_t *context, size_t count, unsigned flags,
                          size_t exact_count, unsigned exact_flags)
{
    unsigned ends = MC_UNWIND_COMPLETE | MC_UNWIND_CUT | MC_UNWIND_STOPPED;
    if (count == exact_count && (flags & ends) == (exact_flags & ends) &&
        memcmp(ours, again, count * sizeof *ours) == 0)
        return;
    size_t at = 0;
    while (at < count && at < exact_count && ours[at].pc == again[at].pc)
        at++;
    tally->unlike++;
    log_difference("fast and exact walk differ", context, count, flags, at);
    report("  exact walk: %zu frames, flags %x", exact_count, exact_flags);
    if (at < exact_count) report(", there %lx at slot %lx", again[at].pc, again[at].slot);
    report("\n");
}

/* Some register is replaced by a number, a nearby or a far address. Must come back. */
static void walk_damaged(const ucontext_t *context)
{
    static const unsigned char victims[] = {REG_RSP, REG_RBP, REG_RIP, REG_RBX, REG_R10};
    static uint64_t seed = 88172645463325252;
    ucontext_t damaged = *context;
    unsigned flags;
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    greg_t *victim = &damaged.uc_mcontext.gregs[victims[seed % sizeof victims]];
    switch (seed >> 8 & 3) {
    case 0: *victim = (greg_t)(seed >> 16); break;
    case 1: *victim += (greg_t)(seed >> 48) - 32768; break;
    case 2: *victim = damaged.uc_mcontext.gregs[REG_RSP] + (greg_t)(seed >> 40 & 0xfffff8); break;
    default: *victim = damaged.uc_mcontext.gregs[REG_RIP] + (greg_t)(seed >> 40) - (1 << 23);
    }
    mc_unwind_context(&damaged, again, DEPTH, &flags);
    tally->mutated++;
}

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* At least twice what the sample took goes to the program. */
static void set_timer(double spent_us)
{
    long wait = period_us + (long)(spent_us * 2) + (long)(turn++ % 17);
    struct itimerspec when = {{0, 0}, {wait / 1000000, wait % 1000000 * 1000}};
    if (timed) timer_settime(timer, 0, &when, NULL);
}

static int enter(void)
{
    if (inside || !tally) return 0;
    inside = 1;
    if (__atomic_exchange_n(&sampling, 1, __ATOMIC_ACQUIRE) == 0) return 1;
    tally->busy++;
    inside = 0;
    return 0;
}

static void leave(void)
{
    __atomic_store_n(&sampling, 0, __ATOMIC_RELEASE);
    inside = 0;
}

static void on_signal(int signal, siginfo_t *info, void *argument)
{
    ucontext_t *context = argument;
    int error = errno;
    double began = now_us();
    (void)signal, (void)info;
    if (!enter()) {
        set_timer(0);
        return;
    }
    unsigned flags, exact_flags;
    struct mc_unwind_start start;
    size_t count = mc_unwind_context(context, ours, DEPTH, &flags);
    uintptr_t registers[MC_REG_COUNT + 1] = {
        [16] = (uintptr_t)context->uc_mcontext.gregs[REG_RIP],
        [17] = MC_REG_ALL,
    };
    static const unsigned char places[16] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                             REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                             REG_R12, REG_R13, REG_R14, REG_R15};
    for (int i = 0; i < 16; i++)
        registers[i] = (uintptr_t)context->uc_mcontext.gregs[places[i]];
    memcpy(&start, registers, sizeof start);
    again[0] = ours[0];
    size_t exact_count = 1 + mc_unwind_exact(&start, 0, again + 1, DEPTH - 1, &exact_flags);
    walk_theirs((unw_context_t *)context, UNW_INIT_SIGNAL_FRAME);
    compare_walks(context, count, flags, exact_count, exact_flags);
    compare(context, count, flags, 0);
    walk_damaged(context);
    leave();
    set_timer(now_us() - began);
    errno = error;
}

static __attribute__((noinline)) void compare_here(void)
{
    struct mc_unwind_start start;
    unsigned flags, exact_flags;
    unw_context_t context;
    if (!enter()) return;
    MC_UNWIND_CAPTURE(&start);
    size_t count = mc_unwind(&start, ours, DEPTH, &flags);
    size_t exact_count = mc_unwind_exact(&start, 1, again, DEPTH, &exact_flags);
    their_getcontext(&context);
    walk_theirs(&context, 0);
    compare_walks(NULL, count, flags, exact_count, exact_flags);
    compare(NULL, count, flags, 1);
    leave();
}

/* Every call of malloc walks along the trail of its thread, and finds what the fast walk finds, which is
 * compared with the others' here and there. */
struct own_trail {
    struct mc_trail *trail;
    struct mc_frame_site frames[DEPTH + 16];
};
static __thread struct own_trail *own __attribute__((tls_model("initial-exec")));
static __thread int walking __attribute__((tls_model("initial-exec")));

static struct own_trail *make_trail(void)
{
    static unsigned numbers;
    own = mmap(NULL, sizeof *own, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (own == MAP_FAILED) abort();
    own->trail = mc_trail_take(__atomic_add_fetch(&numbers, 1, __ATOMIC_RELAXED), DEPTH);
    if (!own->trail) abort();
    return own;
}

/* What stands for a stack. */
static uint32_t stack_of(uint64_t hash)
{
    return (uint32_t)(hash >> (64 - MC_INDEX_ID_BITS)) | 1;
}

static int strays(const struct mc_trail_path *path, const struct mc_frame_site *frames,
                  size_t count)
{
    if (path->depth > count) return 1;
    for (uint32_t i = 0; i < path->depth; i++)
        if (path->first[i].pc != frames[i].pc || path->first[i].sp - 8 != frames[i].slot) return 1;
    return path->depth < count && !(path->flags & MC_UNWIND_CUT);
}

/* Is this not the stack of what the fast walk found? */
static int misremembers(uint32_t stack, const struct mc_frame_site *frames, size_t count)
{
    uint64_t hash = 0;
    for (size_t i = count < DEPTH ? count : DEPTH; i-- > 0;)
        hash = frames[i].pc + MC_PATH_BASE * hash;
    return stack && stack != stack_of(hash);
}

static void report_strayed(const struct mc_trail_path *path, const struct mc_frame_site *frames,
                           size_t count)
{
    __atomic_add_fetch(&tally->strayed, 1, __ATOMIC_RELAXED);
    report("strayed: %u frames, of %zu, flags %x\n", path->depth, count, path->flags);
    for (uint32_t i = 0; i < path->depth; i++)
        report("  %2u along %lx at %lx, fast %lx at %lx\n", i, path->first[i].pc,
               path->first[i].sp - 8, i < count ? frames[i].pc : 0, i < count ? frames[i].slot : 0);
}

/* In one step. */
static void note(struct mc_trail *trail, const struct mc_caller *caller, uint32_t stack)
{
    uint64_t key;
    if (mc_trail_note_reading(trail, caller, &key)) mc_trail_note_stack(trail, key, stack);
}

static __attribute__((noinline)) void walk_along(uintptr_t *frame)
{
    struct mc_caller caller = {(uintptr_t)(frame + 2), *frame};
    struct mc_trail_path path = {0};
    struct mc_unwind_start start;
    unsigned flags;
    if (!tally || walking) return;
    walking = 1;
    struct own_trail *t = own ? own : make_trail();
    uint32_t recalled = mc_trail_recall(t->trail, &caller);
    int along = mc_trail_walk(t->trail, &caller, &path) == 0;
    if (along) note(t->trail, &caller, stack_of(path.hash));
    MC_UNWIND_CAPTURE(&start);
    size_t count = mc_unwind(&start, t->frames, DEPTH + 16, &flags), first = 0;
    while (first < count && t->frames[first].slot != caller.sp - 8)
        first++;
    __atomic_add_fetch(&tally->calls, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&tally->along, along, __ATOMIC_RELAXED);
    __atomic_add_fetch(&tally->landed, path.landed > 0, __ATOMIC_RELAXED);
    __atomic_add_fetch(&tally->recalled, recalled != 0, __ATOMIC_RELAXED);
    if ((along && strays(&path, t->frames + first, count - first)) ||
        misremembers(recalled, t->frames + first, count - first))
        report_strayed(&path, t->frames + first, count - first);
    walking = 0;
}
#define WALK_ALONG() walk_along(__builtin_frame_address(0))

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);

static inline int is_my_turn(void)
{
    return malloc_every && ++turn % (unsigned long)malloc_every == 0;
}

void *malloc(size_t size)
{
    WALK_ALONG();
    if (is_my_turn()) compare_here();
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    WALK_ALONG();
    if (is_my_turn()) compare_here();
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    WALK_ALONG();
    if (is_my_turn()) compare_here();
    return __libc_realloc(old, size);
}

/* As the preload does it. */
int dlclose(void *handle)
{
    static int (*real)(void *);
    if (!real) real = (int (*)(void *))dlsym(RTLD_NEXT, "dlclose");
    mc_unwind_epoch_begin();
    int result = real(handle);
    mc_unwind_epoch_end();
    return result;
}

/* One timer a thread, set anew after each sample: a sample may take longer than the period. */
static void start_timer(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGNAL};
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    if (period_us == 0 || timer_create(CLOCK_MONOTONIC, &event, &timer)) return;
    timed = 1;
    set_timer(0);
}

struct thread_start {
    void *(*run)(void *);
    void *argument;
};

static void *run_thread(void *argument)
{
    struct thread_start start = *(struct thread_start *)argument;
    free(argument);
    start_timer();
    void *result = start.run(start.argument);
    if (timed) timer_delete(timer);
    timed = 0;
    return result;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!real) real = (__typeof__(real))dlsym(RTLD_NEXT, "pthread_create");
    struct thread_start *start = malloc(sizeof *start);
    if (!start || !tally) return real(thread, attributes, run, argument);
    *start = (struct thread_start){run, argument};
    return real(thread, attributes, run_thread, start);
}

static long number_of(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("UNWIND_TALLY"), *log = getenv("UNWIND_LOG");
    if (!path || !log || !open_oracle()) return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    int low = open(log, O_WRONLY | O_APPEND | O_CLOEXEC);
    log_fd = fcntl(low, F_DUPFD_CLOEXEC, 600); /* out of the program's way */
    if (log_fd < 0)
        log_fd = low;
    else
        close(low);
    void *shared = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (shared == MAP_FAILED) return;
    period_us = number_of("UNWIND_PERIOD_US", 400);
    malloc_every = number_of("UNWIND_MALLOC_EVERY", 0);
    /* Its cache outlives the modules it describes. */
    if (getenv("UNWIND_UNCACHED")) their_set_caching_policy(*their_local_space, UNW_CACHE_NONE);
    struct sigaction action = {.sa_sigaction = on_signal,
                               .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    sigaction(SIGNAL, &action, NULL);
    tally = shared;
    start_timer();
}
