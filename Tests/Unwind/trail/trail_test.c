/* SPDX-License-Identifier: MIT */
/* The walk along a trail against the exact walk, frame by frame, on stacks made by chance. Every walk
 * is compared, since each begins where the one before left the trail. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../check.h"
#include "machine.h"
#include "rules.h"
#include "trail.h"
#include "unwind_exact.h"

enum { ROOM = MC_TRAIL_DEPTH_MAX, MORE = 512 };

/* A thread's trail, and what was seen along it. */
struct tried {
    struct mc_trail trail;
    struct mc_trail_frame arrays[2][2 * ROOM + 1];
    struct mc_trail_check checks[ROOM], words[MC_TRAIL_WORDS(ROOM)];
    struct mc_trail_note notes[1 << MC_TRAIL_NOTE_BITS];
    uintptr_t last[ROOM];
    size_t last_count;
    unsigned walks, along, landed, same, repeated, recalled, cut, wrong;
};

static _Thread_local struct tried *mine;

static struct tried *tried_new(uint32_t depth)
{
    struct tried *t = calloc(1, sizeof *t);
    if (!t) abort();
    t->trail.frames = t->arrays[0];
    t->trail.fresh = t->arrays[1];
    t->trail.checks = t->checks;
    t->trail.repeat.words = t->words;
    t->trail.notes = t->notes;
    t->trail.room = ROOM;
    t->trail.depth = depth;
    mc_trail_forget(&t->trail);
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
    int cut = count > t->trail.depth || flags & MC_UNWIND_CUT;
    if (cut) count = t->trail.depth;
    if (path->depth != count || !(path->flags & MC_UNWIND_CUT) != !cut) return 0;
    for (size_t i = 0; i < count; i++)
        if (path->first[i].pc != exact[i].pc || path->first[i].sp - 8 != exact[i].slot) return 0;
    if (path->hash != hash_of(path->first, path->depth)) return 0;
    if (path->same && count != t->last_count) return 0;
    for (size_t i = 0; path->same && i < count; i++)
        if (t->last[i] != exact[i].pc) return 0;
    return check_invariants(&t->trail);
}

/* What a walk would say that is known to be the last one again. */
static struct mc_trail_path again(const struct mc_trail *trail)
{
    const struct mc_trail_frame *first = &trail->frames[trail->start];
    uint32_t depth = trail->end - trail->start;
    unsigned flags = trail->complete ? MC_UNWIND_COMPLETE : MC_UNWIND_CUT;
    return (struct mc_trail_path){first, depth, flags, hash_of(first, depth), 1, depth, 0};
}

struct found {
    struct mc_frame_site frames[MORE];
    size_t count;
    unsigned flags;
};

/* What stands for a stack, never below 2. */
static uint32_t stack_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32) | 2;
}

/* That of what the exact walk found, which ends within the trail's depth. */
static uint32_t exact_stack(const struct tried *t, const struct found *exact)
{
    uint64_t hash = 0;
    if (exact->count > t->trail.depth || !(exact->flags & MC_UNWIND_COMPLETE)) return 0;
    for (size_t i = exact->count; i-- > 0;)
        hash = exact->frames[i].pc + MC_PATH_BASE * hash;
    return stack_of(hash);
}

static void walk(struct tried *t, const struct mc_caller *caller, const struct found *exact)
{
    struct mc_trail_path path = {0};
    t->walks++;
    if (mc_trail_repeats(&t->trail, caller)) {
        path = again(&t->trail);
        t->repeated++;
        if (!is_right(t, &path, exact->frames, exact->count, exact->flags)) t->wrong++;
    }
    if (mc_trail_walk(&t->trail, caller, 2, &path)) return;
    t->along++;
    if (path.known) {
        t->recalled++;
        t->landed++;
        if (path.known != exact_stack(t, exact)) t->wrong++;
        return;
    }
    t->landed += path.landed > 0;
    t->same += (unsigned)path.same;
    t->cut += path.flags & MC_UNWIND_CUT ? 1 : 0;
    if (!is_right(t, &path, exact->frames, exact->count, exact->flags)) t->wrong++;
    if (path.same) mc_trail_expect(&t->trail, t->walks);
    mc_trail_remember(&t->trail, stack_of(path.hash));
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
        CHECK(t.along > t.walks / 2 && t.landed > t.along / 4 && t.same > 0 && t.repeated > 0 &&
              t.recalled > 0);
    }
}

static void jumps(void)
{
    struct tried t = try(11, 10000, 24, MACHINE_JUMPS, ROOM);
    CHECK(t.along > t.walks / 2 && t.landed > t.along / 4);
}

static void signals_and_coroutines(void)
{
    struct tried t = try(12, 20000, 24, MACHINE_JUMPS | MACHINE_SIGNALS | MACHINE_COROUTINES, ROOM);
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

/* One trail after the other on several stacks: as when a thread takes over a dead one's. */
static struct tried *shared;

static void *with_the_same_trail(void *argument)
{
    mine = shared;
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
        if (i % 2) mc_trail_forget(&shared->trail);
    }
    CHECK(shared->wrong == 0 && shared->along > shared->walks / 4);
    free(shared);
}

/* What was found in one epoch is not landed on in the next: the trail says what is not so. */
static __attribute__((noinline)) void walk_here(struct mc_trail_path *path)
{
    struct mc_caller caller = {(uintptr_t)__builtin_frame_address(0) + 16,
                               *(uintptr_t *)__builtin_frame_address(0)};
    if (mc_trail_walk(&mine->trail, &caller, UINT32_MAX, path)) path->depth = 0;
}

static void forgets_an_epoch(void)
{
    struct mc_trail_path path[3];
    mine = tried_new(ROOM);
    for (volatile int i = 0; i < 3; i++) { /* volatile: one place to call from */
        if (i == 2) {
            CHECK(mine->trail.end - mine->trail.start > 1);
            mc_unwind_epoch_begin();
            CHECK(mc_trail_walk(&mine->trail, &(struct mc_caller){0}, UINT32_MAX,
                                &path[2])); /* not meanwhile */
            mc_unwind_epoch_end();
        }
        walk_here(&path[i]);
    }
    CHECK(!path[0].same && path[1].same && !path[2].same && path[2].depth == path[1].depth);
    free(mine);
}

int main(int argc, char **argv)
{
    if (argc > 1) scale = (unsigned)atoi(argv[1]);
    mc_path_powers_make();
    TEST(shallow_and_deep);
    TEST(jumps);
    TEST(signals_and_coroutines);
    TEST(cut);
    TEST(threads);
    TEST(handed_on);
    TEST(forgets_an_epoch);
    return check_failed_tests != 0;
}
