/* SPDX-License-Identifier: MIT */
/* The walk along a trail against the exact walk, frame by frame, on stacks made by chance. Every walk
 * is compared, since each begins where the one before left the trail. */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../check.h"
#include "machine.h"
#include "rules.h"
#include "trail_readings.h"
#include "unwind_exact.h"

enum { ROOM = MC_TRAIL_DEPTH_MAX, MORE = 512, THE_SAME = 5000 /* a thread's number */ };

/* A thread's trail, and what was seen along it. */
struct tried {
    struct mc_trail *trail;
    uintptr_t last[ROOM];
    size_t last_count;
    unsigned walks, along, landed, same, recalled, cut, wrong, grown;
};

static _Thread_local struct tried *mine;

/* The trail of a thread that has this number from now on. */
static struct mc_trail *take(unsigned number, uint32_t depth)
{
    mc_trail_own = NULL;
    struct mc_trail *trail = mc_trail_take(number, depth);
    if (!trail) abort();
    return trail;
}

static struct tried *tried_new(uint32_t depth)
{
    static unsigned numbers;
    struct tried *t = calloc(1, sizeof *t);
    if (!t) abort();
    t->trail = take(__atomic_add_fetch(&numbers, 1, __ATOMIC_RELAXED), depth);
    return t;
}

static uint64_t hash_of(const struct mc_trail_frame *frames, uint32_t count)
{
    uint64_t hash = 0;
    while (count-- > 0)
        hash = frames[count].pc + MC_PATH_BASE * hash;
    return hash;
}

static int check_invariants(const struct mc_trail *trail)
{
    if (trail->start > trail->settled || trail->settled > trail->end ||
        trail->end > 2 * trail->depth)
        return 0;
    for (uint32_t i = trail->start; i + 1 < trail->end; i++)
        if (trail->frames[i].sp >= trail->frames[i + 1].sp) return 0;
    return trail->start == trail->end || trail->frames[trail->end - 1].sp <= trail->high;
}

/* Is it what the exact walk finds? */
static int is_right(struct tried *t, const struct mc_trail_path *path,
                    const struct mc_frame_site *exact, size_t count, unsigned flags)
{
    int cut = count > t->trail->depth || flags & MC_UNWIND_CUT;
    if (cut) count = t->trail->depth;
    if (path->depth != count || !(path->flags & MC_UNWIND_CUT) != !cut) return 0;
    for (size_t i = 0; i < count; i++)
        if (path->first[i].pc != exact[i].pc || path->first[i].sp - 8 != exact[i].slot) return 0;
    if (path->hash != hash_of(path->first, path->depth)) return 0;
    if (path->same && count != t->last_count) return 0;
    for (size_t i = 0; path->same && i < count; i++)
        if (t->last[i] != exact[i].pc) return 0;
    return check_invariants(t->trail);
}

struct found {
    struct mc_frame_site frames[MORE];
    size_t count;
    unsigned flags;
};

/* What stands for a stack. */
static uint32_t stack_of(uint64_t hash, int cut)
{
    return (uint32_t)(hash >> (65 - MC_INDEX_ID_BITS)) << 1 | 1u << 25 | (cut ? 1 : 0);
}

/* That of what the exact walk found, at the trail's depth; 0 if there is none. */
static uint32_t exact_stack(const struct tried *t, const struct found *exact)
{
    uint64_t hash = 0;
    size_t count = exact->count;
    int cut = count > t->trail->depth || exact->flags & MC_UNWIND_CUT;
    if (!cut && !(exact->flags & MC_UNWIND_COMPLETE)) return 0;
    for (size_t i = cut ? t->trail->depth : count; i-- > 0;)
        hash = exact->frames[i].pc + MC_PATH_BASE * hash;
    return stack_of(hash, cut);
}

/* In one step. */
static void note(struct mc_trail *trail, const struct mc_caller *caller, uint32_t stack)
{
    uint64_t key;
    if (mc_trail_note_reading(trail, caller, &key)) mc_trail_note_stack(trail, key, stack);
}

/* What is recalled is compared, and walked nevertheless every other time. */
static void walk(struct tried *t, const struct mc_caller *caller, const struct found *exact)
{
    struct mc_trail_path path = {0};
    uint32_t recalled = mc_trail_recall(t->trail, caller);
    t->walks++;
    if (recalled) {
        t->recalled++;
        if (recalled != exact_stack(t, exact)) t->wrong++;
        if (t->walks & 1) return;
    }
    if (mc_trail_walk(t->trail, caller, &path)) return;
    t->along++;
    t->landed += path.landed > 0;
    t->same += (unsigned)path.same;
    t->cut += path.flags & MC_UNWIND_CUT ? 1 : 0;
    if (!is_right(t, &path, exact->frames, exact->count, exact->flags)) t->wrong++;
    note(t->trail, caller, stack_of(path.hash, !!(path.flags & MC_UNWIND_CUT)));
    t->grown |= t->trail->known != t->trail->known_first;
    t->last_count = path.depth;
    for (uint32_t i = 0; i < path.depth; i++)
        t->last[i] = path.first[i].pc;
}

void trail_hook(void);

/* Sometimes more than once, so that there is something to repeat, and to be wrong about next time. */
__attribute__((used)) void trail_hook_for(int unused, int too, struct mc_caller caller)
{
    struct found exact;
    struct mc_unwind_start start;
    (void)unused, (void)too;
    MC_UNWIND_CAPTURE(&start);
    exact.count = mc_unwind_exact(&start, 1, exact.frames, MORE, &exact.flags);
    unsigned times = mine->walks % 5 ? 1 : 3;
    for (unsigned i = 0; i < times; i++)
        walk(mine, &caller, &exact);
}
MC_CALLER_ENTRY_2(trail_hook, trail_hook_for);

static unsigned scale = 1;

/* Returns the counts; *wrong walks are a failure wherever they are. */
static struct tried try(uint64_t seed, unsigned steps, unsigned depth, unsigned what,
                        uint32_t limit)
{
    mine = tried_new(limit);
    machine_run(seed, steps * scale, depth, what, trail_hook);
    struct tried result = *mine;
    CHECK(result.wrong == 0);
    free(mine);
    return result;
}

static void shallow_and_deep(void)
{
    static const unsigned depths[] = {2, 6, 12, 24, 48};
    for (unsigned i = 0; i < sizeof depths / sizeof *depths; i++) {
        struct tried t = try(i + 1, 8000, depths[i], 0, ROOM);
        CHECK(t.along > t.walks / 4 && t.landed > t.along / 4 && t.same > 0 &&
              t.recalled > t.walks / 8);
    }
}

/* More stacks than there was room for at first. */
static void many_stacks(void)
{
    struct tried t = try(10, 20000, 30, 0, ROOM);
    CHECK(t.grown && t.recalled > 0);
}

static void jumps(void)
{
    struct tried t = try(11, 10000, 24, MACHINE_JUMPS, ROOM);
    CHECK(t.along > t.walks / 2 && t.landed > t.along / 4);
}

static void exceptions(void)
{
    struct tried t = try(13, 10000, 24, MACHINE_THROWS | MACHINE_JUMPS, ROOM);
    CHECK(t.along > t.walks / 4 && t.landed > t.along / 4 && t.recalled > 0);
}

static void signals_and_coroutines(void)
{
    struct tried t = try(
        12, 20000, 24, MACHINE_JUMPS | MACHINE_THROWS | MACHINE_SIGNALS | MACHINE_COROUTINES, ROOM);
    CHECK(t.along > t.walks / 8 && t.landed > 0);
}

static void cut(void)
{
    for (unsigned limit = 1; limit < 100; limit += limit / 3 + 1) {
        struct tried t = try(20 + limit, 3000, 40, MACHINE_JUMPS, limit);
        CHECK(t.along > t.walks / 4 && (t.cut > 0 || limit > 64));
    }
}

static void *in_thread(void *argument)
{
    struct tried t = try((uintptr_t)argument, 5000, 24, MACHINE_JUMPS | MACHINE_COROUTINES, ROOM);
    return (void *)(uintptr_t)(t.along > t.walks / 8 && t.wrong == 0);
}

static void threads(void)
{
    pthread_t thread[4];
    for (uintptr_t i = 0; i < 4; i++)
        CHECK(!pthread_create(&thread[i], NULL, in_thread, (void *)(30 + i)));
    for (unsigned i = 0; i < 4; i++) {
        void *good;
        CHECK(!pthread_join(thread[i], &good) && good);
    }
}

/* One trail on several stacks: a thread takes over a dead one's. */
static struct tried *shared;

static void *with_the_same_trail(void *argument)
{
    mine = shared;
    mine->trail = take(THE_SAME, ROOM);
    machine_run((uintptr_t)argument, 500, 20, MACHINE_JUMPS, trail_hook);
    return NULL;
}

static void handed_on(void)
{
    shared = tried_new(ROOM);
    for (uintptr_t i = 0; i < 20; i++) {
        pthread_t thread;
        CHECK(!pthread_create(&thread, NULL, with_the_same_trail, (void *)(i + 50)));
        pthread_join(thread, NULL);
    }
    CHECK(shared->wrong == 0 && shared->along > shared->walks / 4 && shared->recalled > 0);
    free(shared);
}

/* What was found in one epoch is neither landed on nor recalled in the next: the trail says what is not so. */
static __attribute__((noinline)) uint32_t walk_here(struct mc_trail_path *path)
{
    struct mc_caller caller = {(uintptr_t)__builtin_frame_address(0) + 16,
                               *(uintptr_t *)__builtin_frame_address(0)};
    uint32_t recalled = mc_trail_recall(mine->trail, &caller);
    if (mc_trail_walk(mine->trail, &caller, path))
        path->depth = 0;
    else
        note(mine->trail, &caller, stack_of(path->hash, 0));
    return recalled;
}

static void forgets_an_epoch(void)
{
    struct mc_trail_path path[3];
    uint32_t recalled[3];
    mine = tried_new(ROOM);
    for (volatile int i = 0; i < 3; i++) { /* volatile: one place to call from */
        if (i == 2) {
            CHECK(mine->trail->end - mine->trail->start > 1);
            mc_unwind_epoch_begin();
            CHECK(mc_trail_walk(mine->trail, &(struct mc_caller){0}, &path[2])); /* not meanwhile */
            mc_unwind_epoch_end();
        }
        recalled[i] = walk_here(&path[i]);
    }
    CHECK(!path[0].same && path[1].same && !path[2].same && path[2].depth == path[1].depth);
    CHECK(!recalled[0] && recalled[1] == stack_of(path[0].hash, 0) && !recalled[2]);
    free(mine);
}

/* -- frames that are gone, whose words are there still ------------------------------------------- */

/* One call leads to either of two functions, which call the leaf in the same place of the stack: `between` by way of
 * swelling(), and swelling() at once, with a larger frame. That covers what the first way had there, and does not
 * write to it. So from the leaf outward all return addresses of the walk before are where they were, to the
 * outermost one; only bp tells that they mean nothing any more. */
#define NOT_INLINED    static __attribute__((noinline, noclone))
#define NO_TAIL_CALL() __asm__ volatile("" ::: "memory")
#define USED(what)     __asm__ volatile("" : : "r"(what) : "memory")

static void (*leaf)(void);
static uintptr_t leaf_place;

NOT_INLINED void note_place(void)
{
    leaf_place = (uintptr_t)__builtin_frame_address(0);
}

NOT_INLINED void walk_at_once(void)
{
    trail_hook();
    NO_TAIL_CALL();
}

/* The bp is on the stack when the walk begins. */
NOT_INLINED void save_and_walk(void)
{
    static volatile size_t size = 48;
    USED(alloca(size));
    trail_hook();
    NO_TAIL_CALL();
}

NOT_INLINED void swelling(size_t size)
{
    USED(alloca(size));
    leaf();
    NO_TAIL_CALL();
}

NOT_INLINED void between(size_t size)
{
    char covered[256];
    USED(covered);
    swelling(size);
    NO_TAIL_CALL();
}

NOT_INLINED void go_either_way(void (*way)(size_t), size_t size)
{
    way(size);
    NO_TAIL_CALL();
}

static void words_that_stayed(void)
{
    enum { LEAST = 16, SIZES = 64, WALKS = 40 };
    void (*const leaves[2])(void) = {walk_at_once, save_and_walk};
    uintptr_t wanted = 0;
    size_t larger = 0;
    mine = tried_new(ROOM);
    for (volatile unsigned i = 0; i < SIZES + 2 * WALKS; i++) { /* one place to call from */
        int first = i < SIZES ? !i : i % 2;
        leaf = i < SIZES ? note_place : leaves[i / 2 % 2];
        size_t size = i < SIZES ? i * LEAST : larger;
        go_either_way(first ? between : swelling, first ? LEAST : size);
        if (!i) wanted = leaf_place;
        if (i && i < SIZES && leaf_place == wanted) larger = size;
        if (i + 1 == SIZES) CHECK(larger > 0);
    }
    CHECK(mine->wrong == 0 && mine->along >= WALKS / 2 && mine->landed > 0);
    free(mine);
}

int main(int argc, char **argv)
{
    if (argc > 1) scale = (unsigned)atoi(argv[1]);
    mc_path_powers_make();
    TEST(shallow_and_deep);
    TEST(many_stacks);
    TEST(jumps);
    TEST(exceptions);
    TEST(signals_and_coroutines);
    TEST(cut);
    TEST(threads);
    TEST(handed_on);
    TEST(forgets_an_epoch);
    TEST(words_that_stayed);
    return check_failed_tests != 0;
}
