/* SPDX-License-Identifier: MIT */
/* What must not be recalled: a stack is noted, one thing is changed by hand that chance hardly ever changes
 * alone (trail/ makes all others), and all the rest is as it was. */
#define _GNU_SOURCE
#include <alloca.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "check.h"
#include "own_memory.h"
#include "trail_readings.h"

#define NOT_INLINED    static __attribute__((noinline, noclone))
#define NO_TAIL_CALL() __asm__ volatile("" ::: "memory")
#define USED(what)     __asm__ volatile("" : : "r"(what) : "memory")

enum { STACK = 2, PAGE = 4096 };

static struct mc_trail *trail;

/* Of a thread that has this number from now on. */
static void take(unsigned number, uint32_t depth)
{
    mc_trail_own = NULL;
    trail = mc_trail_take(number, depth);
    if (!trail) abort();
}

/* A walk from the caller, noted as STACK. Returns what was recalled before. */
static uint32_t walk(const struct mc_caller *caller, struct mc_trail_path *path)
{
    uint64_t key;
    uint32_t recalled = mc_trail_recall(trail, caller);
    CHECK(!mc_trail_walk(trail, caller, path) && path->depth > 1);
    CHECK(mc_trail_note_reading(trail, caller, &key));
    mc_trail_note_stack(trail, key, STACK);
    return recalled;
}

static struct mc_caller caller_above(uintptr_t *frame)
{
    return (struct mc_caller){(uintptr_t)(frame + 2), *frame};
}

/* What is tried where the stack is recalled; 1 if it was not, with the change. */
typedef int (*change)(struct mc_caller caller);

NOT_INLINED void walk_and_change(change change)
{
    struct mc_caller caller = caller_above(__builtin_frame_address(0));
    struct mc_trail_path path;
    walk(&caller, &path);
    CHECK(mc_trail_recall(trail, &caller) == STACK);
    CHECK(change(caller));
    CHECK(mc_trail_recall(trail, &caller) == STACK);
}

/* Has a frame that is found by bp. */
NOT_INLINED void change_below_bp(change change)
{
    static volatile size_t size = 48;
    USED(alloca(size));
    walk_and_change(change);
    NO_TAIL_CALL();
}

static int with_another_bp(struct mc_caller caller)
{
    caller.bp += 16;
    return !mc_trail_recall(trail, &caller);
}

/* Of a walk that was cut the return address behind its last frame: without it nothing was cut. */
static int with_nothing_beyond(struct mc_caller caller)
{
    volatile uintptr_t *beyond = (uintptr_t *)(trail->frames[trail->end].sp - 8);
    uintptr_t was = *beyond;
    if (trail->complete || !was) return 0;
    *beyond = 0;
    uint32_t recalled = mc_trail_recall(trail, &caller);
    *beyond = was;
    return !recalled;
}

static void another_bp(void)
{
    take(1, MC_TRAIL_DEPTH_MAX);
    change_below_bp(with_another_bp);
}

static void nothing_beyond(void)
{
    take(3, 2);
    change_below_bp(with_nothing_beyond);
}

NOT_INLINED uint32_t walk_here(void)
{
    struct mc_caller caller = caller_above(__builtin_frame_address(0));
    struct mc_trail_path path;
    return walk(&caller, &path);
}

NOT_INLINED void walk_deeper(void)
{
    char covered[256];
    USED(covered);
    walk_here();
    NO_TAIL_CALL();
}

/* Walks of this epoch, from elsewhere, do not make those of the last one known again. */
static void another_epoch(void)
{
    uint32_t recalled[3];
    take(4, MC_TRAIL_DEPTH_MAX);
    for (volatile int i = 0; i < 3; i++) { /* volatile: one place to call from */
        if (i == 2) {
            mc_unwind_epoch_begin();
            mc_unwind_epoch_end();
            walk_deeper();
            CHECK(trail->epoch == mc_rule_epoch);
        }
        recalled[i] = walk_here();
    }
    CHECK(!recalled[0] && recalled[1] == STACK && !recalled[2]);
}

/* Whose readings are of a stack that ended elsewhere: what there is to read may be less by now. */
static void another_end(void)
{
    uint32_t recalled[4];
    take(2, MC_TRAIL_DEPTH_MAX);
    for (volatile int i = 0; i < 4; i++) { /* volatile: one place to call from */
        if (i == 2) {
            trail->high -= PAGE;
            walk_deeper();
        }
        recalled[i] = walk_here();
    }
    CHECK(!recalled[0] && recalled[1] == STACK && !recalled[2] && recalled[3] == STACK);
}

/* A walk at the lower end of a stack, whose other pages are gone when a thread of the same number asks. */
enum { STACK_BYTES = 64 * PAGE, BETWEEN = 8 * PAGE, NUMBER = 5 };

static struct mc_caller asked_from;
static uintptr_t asked_pc;

static int that_is_asked(struct mc_caller caller)
{
    asked_from = caller;
    asked_pc = *(uintptr_t *)(caller.sp - 8);
    return trail->high > caller.sp + BETWEEN;
}

static void *far_below(void *unused)
{
    (void)unused;
    take(NUMBER, MC_TRAIL_DEPTH_MAX);
    char *between = alloca(BETWEEN);
    USED(between);
    change_below_bp(that_is_asked);
    NO_TAIL_CALL();
    return NULL;
}

static void a_stack_that_is_gone(void)
{
    char *stack =
        mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, STACK_BYTES);
    CHECK(!pthread_create(&thread, &attributes, far_below, NULL) && !pthread_join(thread, NULL));
    pthread_attr_destroy(&attributes);
    *(uintptr_t *)(asked_from.sp - 8) = asked_pc;
    char *gone = (char *)((asked_from.sp / PAGE + 1) * PAGE);
    CHECK(gone < stack + STACK_BYTES && !munmap(gone, (size_t)(stack + STACK_BYTES - gone)));
    take(NUMBER, MC_TRAIL_DEPTH_MAX);
    CHECK(!mc_trail_recall(trail, &asked_from));
    munmap(stack, (size_t)(gone - stack));
}

/* Of frames that lie so much lower: each has readings of its own. */
NOT_INLINED uint32_t walk_below(size_t bytes)
{
    USED(alloca(bytes));
    uint32_t recalled = walk_here();
    NO_TAIL_CALL();
    return recalled;
}

/* A set has room for the few, whichever it is. */
static void more_and_more(void)
{
    enum { FEW = MC_TRAIL_WAYS, MANY = 2000, APART = 16, DEPTH = 64 };
    size_t before = own_memory_bytes;
    take(6, DEPTH);
    for (volatile int round = 0; round < 3; round++)
        for (volatile size_t i = 0; i < FEW; i++)
            CHECK(walk_below(i * APART) == (round ? STACK : 0));
    CHECK(trail->sets == MC_TRAIL_SETS_FIRST && trail->readings == trail->readings_first);
    for (volatile size_t i = FEW; i < MANY; i++)
        for (volatile int round = 0; round < 2; round++)
            CHECK(walk_below(i * APART) == (round ? STACK : 0));
    CHECK(trail->sets == MC_TRAIL_SETS && trail->readings != trail->readings_first);
    mc_trail_forget(trail);
    for (volatile size_t i = MANY - FEW; i < MANY; i++)
        CHECK(!walk_below(i * APART));
    /* Where the depth has no room, all of it goes back, and one like any other comes. */
    take(6, MC_TRAIL_DEPTH_MAX);
    size_t another = own_memory_bytes;
    take(7, MC_TRAIL_DEPTH_MAX);
    CHECK(another - before == own_memory_bytes - another);
}

int main(void)
{
    TEST(another_bp);
    TEST(nothing_beyond);
    TEST(another_epoch);
    TEST(another_end);
    TEST(a_stack_that_is_gone);
    TEST(more_and_more);
    return check_failed_tests != 0;
}
