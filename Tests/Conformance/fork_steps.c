/* fork_steps.c: cases about a signal handler that forks while the thread is in the middle of malloc.
 *
 * Chance would find few of the places where that matters, so the program is single-stepped through its
 * requests (the trap flag: a SIGTRAP after each instruction) and forks after every so manieth of those
 * that are not its own. What the child then allocates must overlap nothing, with the handler's requests
 * alone and, when the handler returns in the child, with those that it interrupted. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <ucontext.h>

enum { TRAP_FLAG = 0x100, OBJECTS = 48 };

struct object {
    char *start;
    size_t size;
    unsigned seed;
};

/* Where the requests of the program are, and, in a child, those of the handler. */
struct requests {
    struct object objects[OBJECTS];
    uint64_t random;
    unsigned made;
};

static struct requests ours, handlers;
static volatile sig_atomic_t steps, forks, failed_step, failed_status, child_returned;
static int stride;
static bool child_returns;

/* Both ends suffice to notice what overlaps; the last one is written last. */
static size_t end_size(size_t size)
{
    return size < 64 ? size : 64;
}

static void mark(const struct object *object)
{
    size_t end = end_size(object->size);
    pattern_fill(object->start, end, object->seed);
    pattern_fill(object->start + object->size - end, end, object->seed);
}

static void check_first(const struct object *object)
{
    REQUIRE(object->size < 128 || pattern_holds(object->start, 64, object->seed));
}

static void drop(struct object *object)
{
    size_t end = end_size(object->size);
    check_first(object);
    REQUIRE(pattern_holds(object->start + object->size - end, end, object->seed));
    free(object->start);
    *object = (struct object){0};
}

static void make(struct requests *requests, struct object *object)
{
    uint64_t r = random_next(&requests->random);
    size_t size = 1 + (r >> 20) % (r % 16 ? 1500 : r % 128 ? 40000 : 300000);
    char *start = r >> 8 & 1 ? malloc(size) : calloc(1, size);
    REQUIRE(start);
    *object = (struct object){start, size, ++requests->made};
    mark(object);
}

static void grow(struct object *object)
{
    size_t size = object->size + object->size / 2;
    char *start = realloc(object->start, size);
    REQUIRE(start);
    object->start = start;
    check_first(object);
    object->size = size;
    mark(object);
}

static void use(struct requests *requests, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        struct object *object = &requests->objects[random_next(&requests->random) % OBJECTS];
        if (!object->start)
            make(requests, object);
        else if (random_next(&requests->random) % 4)
            drop(object);
        else
            grow(object);
    }
}

static void drop_all(struct requests *requests)
{
    for (int i = 0; i < OBJECTS; i++)
        if (requests->objects[i].start) drop(&requests->objects[i]);
}

/* The program's own objects are looked at only when none of them is just being made or freed. */
static void be_child(ucontext_t *interrupted)
{
    alarm(PATIENCE);
    signal(SIGTRAP, SIG_DFL);
    interrupted->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
    handlers.random = (uint64_t)steps;
    use(&handlers, 100);
    if (!child_returns) {
        drop_all(&handlers);
        _exit(0);
    }
    child_returned = 1;
}

extern const char __executable_start[], etext[];

static bool is_own(const ucontext_t *interrupted)
{
    uintptr_t pc = (uintptr_t)interrupted->uc_mcontext.gregs[REG_RIP];
    return pc >= (uintptr_t)__executable_start && pc < (uintptr_t)etext;
}

static void fork_now_and_then(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    if (is_own(context) || steps++ % stride || failed_step) return;
    int saved = errno, status = 0;
    pid_t child = fork();
    if (child == 0) {
        be_child(context);
    } else {
        forks++;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
            failed_step = steps;
            failed_status = status;
        }
    }
    errno = saved;
}

static void set_trap_flag(int on)
{
    if (on)
        __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc");
    else
        __asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc");
}

static void fork_between_instructions(int rounds, int every, bool returns)
{
    struct sigaction action = {.sa_sigaction = fork_now_and_then, .sa_flags = SA_SIGINFO};
    REQUIRE(sigaction(SIGTRAP, &action, NULL) == 0);
    stride = every;
    child_returns = returns;
    use(&ours, 4000);
    set_trap_flag(1);
    use(&ours, rounds);
    if (!child_returned) set_trap_flag(0);
    use(&ours, 200);
    use(&handlers, child_returned ? 200 : 0);
    drop_all(&ours);
    drop_all(&handlers);
    if (child_returned) _exit(0);
    if (!steps) SKIP("no single steps here");
    if (failed_step) fprintf(stderr, "after step %d, status %x\n", failed_step, failed_status);
    REQUIRE(!failed_step && forks > 100);
}

CASE_OURS(fork_at_any_instruction,
          "a child forked by a handler, whatever the handler interrupted, can "
          "allocate (glibc: may hang or crash)")
{
    fork_between_instructions(160, 101, false);
}

CASE_OURS(fork_at_any_instruction_and_return, "and the handler may return in the child")
{
    fork_between_instructions(60, 59, true);
}
