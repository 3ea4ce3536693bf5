/* SPDX-License-Identifier: MIT */
/* See machine.h. */
#define _GNU_SOURCE
#include "machine.h"

#include <alloca.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { SHAPES = 12, JUMPS = 8, STACK = 1 << 17 };

struct machine {
    uint64_t seed;
    unsigned steps, depth_max, what;
    void (*hook)(void);
    unsigned jumps; /* places to jump to, innermost last */
    unsigned floor; /* those below it lie on another stack, where nobody jumps from here */
    sigjmp_buf places[JUMPS];
    unsigned tries, tries_floor; /* those that catch, and so many of them on another stack */
    unsigned foreign;            /* signal handlers and coroutines that it runs in */
    ucontext_t resumer, coroutine;
    unsigned coroutine_depth;
};

static _Thread_local struct machine *self;
static _Thread_local volatile unsigned sink;

static uint64_t chance(struct machine *m)
{
    m->seed ^= m->seed << 13, m->seed ^= m->seed >> 7, m->seed ^= m->seed << 17;
    return m->seed >> 11;
}

static void go(unsigned depth);

#define NOINLINE __attribute__((noinline))
#define FRAMED   __attribute__((noinline, optimize("no-omit-frame-pointer")))

/* Three places to call from, and after each of them something to do. */
#define CALL(place, depth)                                                                         \
    switch ((place) % 3) {                                                                         \
    case 0: go(depth), sink += 1; break;                                                           \
    case 1: go(depth), sink += 2; break;                                                           \
    default: go(depth), sink += 3; break;                                                          \
    }

#define PLAIN(name, room)                                                                          \
    static NOINLINE void name(unsigned depth, unsigned place)                                      \
    {                                                                                              \
        volatile char used[room];                                                                  \
        used[place % (room)] = (char)depth;                                                        \
        CALL(place, depth)                                                                         \
        sink += (unsigned char)used[place % (room)];                                               \
    }
PLAIN(one, 40)
PLAIN(two, 40)
PLAIN(three, 40)
PLAIN(small, 8)
PLAIN(large, 700)

/* Values that live over the call in registers that it has to save, rbp among them. */
static NOINLINE void busy(unsigned depth, unsigned place)
{
    unsigned a = place * 3, b = place ^ depth, c = place + 7, d = depth * 5, e = a ^ b, f = c - d;
    CALL(place, depth)
    sink += a ^ b ^ c ^ d ^ e ^ f;
    CALL(place + 1, depth + 20 + (a ^ b ^ c ^ d ^ e ^ f) % 7)
    sink += a + b * c + d + e * f;
}

static NOINLINE void variable(unsigned depth, unsigned place)
{
    char *used = alloca(16 + place % 5 * 16);
    memset(used, (int)place, 16);
    CALL(place / 5, depth)
    sink += (unsigned char)used[3];
}

static FRAMED void framed(unsigned depth, unsigned place)
{
    volatile char used[24];
    used[place % 24] = 1;
    CALL(place, depth)
    sink += (unsigned char)used[place % 24];
}

static FRAMED void framed_too(unsigned depth, unsigned place)
{
    volatile char used[24];
    used[place % 24] = 1;
    CALL(place, depth)
    sink += (unsigned char)used[place % 24];
}

/* gcc keeps the CFA of such a frame in memory. */
static NOINLINE void aligned(unsigned depth, unsigned place)
{
    volatile char used[64] __attribute__((aligned(64)));
    used[place % 64] = 1;
    CALL(place, depth)
    sink += (unsigned char)used[place % 64];
}

static NOINLINE void jump_on(unsigned depth, unsigned place)
{
    sink += place;
    go(depth); /* a tail call */
}

static NOINLINE void twice(unsigned depth, unsigned place)
{
    go(depth + place % 3), sink += 1;
    go(depth + place % 2), sink += 1;
}

static void (*const shapes[SHAPES])(unsigned, unsigned) = {
    one, two, three, small, large, busy, variable, framed, framed_too, jump_on, twice, aligned,
};

static void jump(struct machine *m, unsigned depth)
{
    if (m->jumps > m->floor && chance(m) % 2) {
        unsigned to = m->jumps - 1 - (unsigned)(chance(m) % (m->jumps - m->floor));
        siglongjmp(m->places[to], 1);
    }
    if (m->jumps == JUMPS) return;
    unsigned mine = m->jumps, tries = m->tries;
    if (sigsetjmp(m->places[mine], 1) == 0) {
        m->jumps = mine + 1;
        go(depth), sink += 1;
    }
    m->jumps = mine;
    m->tries = tries;
}

static void throw(struct machine * m, unsigned depth)
{
    unsigned jumps = m->jumps, tries = m->tries;
    if (tries > m->tries_floor && chance(m) % 2) machine_throw();
    m->tries = tries + 1;
    machine_try(go, depth), sink += 1;
    m->tries = tries;
    m->jumps = jumps;
}

/* Nobody leaves the frames below: another stack begins, or a signal handler. */
static void go_apart(struct machine *m, unsigned depth)
{
    unsigned floor = m->floor, tries_floor = m->tries_floor;
    m->floor = m->jumps;
    m->tries_floor = m->tries;
    m->foreign++;
    go(depth), sink += 1;
    m->foreign--;
    m->floor = floor;
    m->tries_floor = tries_floor;
}

static void on_signal(int signal)
{
    struct machine *m = self;
    (void)signal;
    go_apart(m, m->depth_max > 12 ? m->depth_max - 12 : 0), sink += 1;
}

static void interrupt(struct machine *m)
{
    static _Thread_local char stack[STACK];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = on_signal};
    if (chance(m) % 2 && !m->foreign) {
        sigaltstack(&alternate, NULL);
        action.sa_flags = SA_ONSTACK;
    }
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
}

static void in_coroutine(void)
{
    go_apart(self, self->coroutine_depth), sink += 1;
}

/* Its stack is unmapped when it is over. */
static void run_coroutine(struct machine *m)
{
    char *stack =
        mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    getcontext(&m->coroutine);
    m->coroutine.uc_stack.ss_sp = stack;
    m->coroutine.uc_stack.ss_size = STACK;
    m->coroutine.uc_link = &m->resumer;
    m->coroutine_depth = m->depth_max > 12 ? m->depth_max - 12 : 0;
    makecontext(&m->coroutine, in_coroutine, 0);
    swapcontext(&m->resumer, &m->coroutine);
    munmap(stack, STACK);
}

/* One turn: the hook, perhaps something rare, then the next frame. */
static NOINLINE void go(unsigned depth)
{
    struct machine *m = self;
    if (m->steps == 0) return;
    uint64_t dice = chance(m);
    if (dice % 4 == 0) {
        m->steps--;
        m->hook();
        if (dice & 64) m->hook(), sink += 1;
    }
    if (depth >= m->depth_max) return;
    switch (dice >> 8 & 127) {
    case 0:
        if (m->what & MACHINE_JUMPS) jump(m, depth + 1);
        break;
    case 1:
        if (m->what & MACHINE_SIGNALS && m->foreign < 2) interrupt(m);
        break;
    case 2:
        if (m->what & MACHINE_COROUTINES && !m->foreign) run_coroutine(m);
        break;
    case 3:
        if (m->what & MACHINE_THROWS) throw(m, depth + 1);
        break;
    default: break;
    }
    /* Mostly the shapes that look alike; the realigned one, which ends trails, now and then. */
    unsigned shape = (unsigned)(dice >> 16) % (dice >> 40 & 31 ? SHAPES - 1 : SHAPES);
    for (unsigned again = (dice >> 48 & 3) == 0 ? 2 : 1; again; again--)
        shapes[shape](depth + 1, (unsigned)(dice >> 24 & 0xff)), sink += 1;
}

void machine_run(uint64_t seed, unsigned steps, unsigned depth, unsigned what, void (*hook)(void))
{
    static _Thread_local struct machine machine;
    machine = (struct machine){
        .seed = seed * 2 + 1, .steps = steps, .depth_max = depth, .what = what, .hook = hook};
    self = &machine;
    while (machine.steps)
        go(0), sink += 1;
}
