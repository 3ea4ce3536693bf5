/* SPDX-License-Identifier: MIT */
/* What a backtrace costs: nanoseconds per capture at 10, 30 and 60 frames with warm caches, ours
 * against libunwind's unw_backtrace and against its step by step walk.
 *
 * Two patterns. "same": one call path again and again, the best case of every cache and predictor.
 * "varied": each capture comes through another of 512 paths (each frame picks one of several call
 * sites and frame sizes by a pseudo-random sequence), as allocations of a real program do. Then the
 * share of one frame: the slope between depths. Last, the cost on a coroutine's stack, where pages
 * above the current one are probed, and of the exact walk.
 *
 *   cc -O2 -fno-builtin -I Sources/CTrace Benchmarks/Trace/unwind_cost.c \
 *      Sources/CTrace/unwind*.c Sources/CTrace/cfi*.c Sources/CTrace/rules.c -lunwind
 *
 * Each figure is the least of many rounds shorter than a time slice: what else the machine does
 * only ever adds. */
#define _GNU_SOURCE
#define UNW_LOCAL_ONLY
#include <alloca.h>
#include <libunwind.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include "unwind.h"
#include "unwind_exact.h"

enum { DEPTH = 128, PATHS = 512 };

enum walker { OURS, EXACT, BACKTRACE, STEP, WALKERS };
static const char *const names[WALKERS] = {"mc_unwind", "exact walk", "unw_backtrace", "unw_step"};

static struct mc_frame_site frames[DEPTH];
static void *addresses[DEPTH];
static enum walker walker;
static unsigned repeats;
static size_t counted;
static double best_ns;
static volatile unsigned sink;

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static __attribute__((noinline)) size_t ours(void)
{
    struct mc_unwind_start start;
    unsigned flags;
    MC_UNWIND_CAPTURE(&start);
    size_t count = mc_unwind(&start, frames, DEPTH, &flags);
    if (!(flags & MC_UNWIND_COMPLETE)) abort();
    return count;
}

static __attribute__((noinline)) size_t exact(void)
{
    struct mc_unwind_start start;
    unsigned flags;
    MC_UNWIND_CAPTURE(&start);
    return mc_unwind_exact(&start, 1, frames, DEPTH, &flags);
}

static __attribute__((noinline)) size_t by_steps(void)
{
    unw_context_t context;
    unw_cursor_t cursor;
    unw_word_t pc;
    size_t count = 0;
    unw_getcontext(&context);
    unw_init_local(&cursor, &context);
    while (count < DEPTH && unw_step(&cursor) > 0) {
        unw_get_reg(&cursor, UNW_REG_IP, &pc);
        addresses[count++] = (void *)pc;
    }
    return count;
}

static size_t capture(void)
{
    switch (walker) {
    case OURS: return ours();
    case EXACT: return exact();
    case BACKTRACE: return (size_t)unw_backtrace(addresses, DEPTH);
    default: return by_steps();
    }
}

/* The innermost frame: captures `repeats` times, keeps the time of one. */
static __attribute__((noinline)) void measure(void)
{
    double began = now_ns();
    for (unsigned i = 0; i < repeats; i++)
        counted = capture();
    double each = (now_ns() - began) / repeats;
    if (repeats > 1 && each < best_ns) best_ns = each;
}

static void go(unsigned depth, uint64_t path);

#define CALLER(name, room)                                                                         \
    static __attribute__((noinline)) void name(unsigned depth, uint64_t path)                      \
    {                                                                                              \
        volatile char used[room];                                                                  \
        used[depth % (room)] = (char)path;                                                         \
        if (path & 1)                                                                              \
            go(depth, path >> 1);                                                                  \
        else                                                                                       \
            go(depth, path >> 1 | path << 62);                                                     \
        sink += (unsigned char)used[depth % (room)];                                               \
    }

CALLER(small, 24)
CALLER(medium, 120)
CALLER(large, 600)

static __attribute__((noinline)) void framed(unsigned depth, uint64_t path)
{
    char *used = alloca(16 + (path & 48));
    memset(used, (int)path, 16);
    go(depth, path >> 2 | path << 59);
    sink += (unsigned char)used[3];
}

static __attribute__((noinline)) void go(unsigned depth, uint64_t path)
{
    if (depth < 2) {
        measure();
    } else {
        switch (path & 3) {
        case 0: small(depth - 2, path >> 2 | path << 60); break;
        case 1: medium(depth - 2, path >> 2 | path << 61); break;
        case 2: large(depth - 2, path >> 2 | path << 59); break;
        default: framed(depth - 2, path >> 2 | path << 58);
        }
    }
    sink++; /* keeps the calls from being jumps */
}

static int is_slow(void)
{
    return walker == STEP || walker == EXACT;
}

static double same(unsigned depth)
{
    best_ns = 1e12;
    for (unsigned round = 0; round < (is_slow() ? 30 : 1000); round++) {
        repeats = is_slow() ? 20 : 200;
        go(depth, 0x9e3779b97f4a7c15);
    }
    return best_ns;
}

/* One pass over the paths, with `captures` at the end of each. */
static double pass_ns(unsigned depth, unsigned captures)
{
    uint64_t path = 88172645463325252;
    double began = now_ns();
    for (unsigned i = 0; i < PATHS; i++) {
        path ^= path << 13, path ^= path >> 7, path ^= path << 17;
        repeats = captures;
        go(depth, path);
    }
    return (now_ns() - began) / PATHS;
}

/* What walking the paths costs without a capture is taken off. */
static double varied(unsigned depth)
{
    double with = 1e12, without = 1e12;
    for (unsigned round = 0; round < (is_slow() ? 10 : 300); round++) {
        double ns = pass_ns(depth, 1);
        if (ns < with) with = ns;
        ns = pass_ns(depth, 0);
        if (ns < without) without = ns;
    }
    return with - without;
}

static void table(unsigned outside)
{
    static const unsigned depths[] = {10, 30, 60};
    printf("%-14s %-8s %8s %8s %8s   ns a frame\n", "", "", "10", "30", "60");
    for (walker = OURS; walker < WALKERS; walker++) {
        for (int pattern = 0; pattern < 2; pattern++) {
            double ns[3];
            for (int i = 0; i < 3; i++) {
                unsigned depth = depths[i] - outside;
                ns[i] = pattern ? varied(depth) : same(depth);
            }
            printf("%-14s %-8s %8.0f %8.0f %8.0f   %.1f\n", names[walker],
                   pattern ? "varied" : "same", ns[0], ns[1], ns[2], (ns[2] - ns[0]) / 50);
        }
    }
}

static ucontext_t resumer;

static void in_coroutine(void)
{
    walker = OURS;
    double ns = same(24);
    printf("mc_unwind on a coroutine's stack, %zu frames: %.0f ns\n", counted, ns);
}

static void coroutine(void)
{
    ucontext_t context;
    enum { SIZE = 1 << 18 };
    getcontext(&context);
    context.uc_stack.ss_sp =
        mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    context.uc_stack.ss_size = SIZE;
    context.uc_link = &resumer;
    makecontext(&context, in_coroutine, 0);
    swapcontext(&resumer, &context);
}

int main(void)
{
    walker = OURS;
    repeats = 2;
    go(20, 1);
    printf("frames at depth 20: %zu\n", counted);
    table((unsigned)counted - 20);
    coroutine();
    return 0;
}
