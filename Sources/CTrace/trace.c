/* SPDX-License-Identifier: MIT */
/* See trace.h. */
#include "trace.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include "births.h"
#include "calls.h"
#include "capture.h"
#include "counters.h"
#include "modules.h"
#include "os.h"
#include "region.h"
#include "sampling.h"
#include "shard.h"
#include "stacks.h"
#include "syscall.h"
#include "unwind.h"
#include "unwind_machine.h"
#include "unwind_stack.h"

/* Of the areas. */
enum { NONE, READY = MC_TRACE_READY, IMPOSSIBLE };
uint32_t mc_trace_state; /* [shared] */

/* The thread that makes them, or did: by its pointer, that a signal handler knows its own. */
static uintptr_t maker; /* [shared] */

/* The state when another thread has made them, for what is asked for meanwhile is to be accounted
 * too. It takes a fraction of a millisecond, or as long as the maker has no processor; the bound is
 * for one that never gets it. Asleep, so that a thread of high priority leaves it to the maker. */
static uint32_t wait_for_maker(void)
{
    enum { MOST_MS = 1000, SPINS = 1000000 };
    static const struct timespec nap = {0, 1000000};
    uint64_t end = mc_os_clock_ms() + MOST_MS;
    uint32_t seen = mc_load_acquire(&mc_trace_state);
    for (int i = 0; seen == NONE && i < SPINS && mc_os_clock_ms() < end; i++) {
        if (mc_call_allowed(MC_CALL_FUTEX))
            MC_SYSCALL_4(SYS_futex, &mc_trace_state, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, NONE, &nap);
        seen = mc_load_acquire(&mc_trace_state);
    }
    return seen;
}

/* Makes them, or waits for who does. A handler that interrupted its own thread there can do
 * neither. */
static uint32_t made(void)
{
    uintptr_t self = mc_machine_thread_pointer(), other = 0;
    if (!mc_swap_if(&maker, &other, self))
        return other == self ? mc_load_acquire(&mc_trace_state) : wait_for_maker();
    uint32_t state = mc_areas_make() ? IMPOSSIBLE : READY;
    mc_births_make(); /* what is in a shard is counted with the time */
    if (state == READY) mc_shards_begin();
    mc_store_release(&mc_trace_state, state); /* pairs with the loads above */
    mc_births_look();                         /* nobody waits for that */
    return state;
}

int mc_trace_make_ready(void)
{
    uint32_t state = mc_load_acquire(&mc_trace_state);
    if (state == NONE) state = made();
    if (state != READY) mc_trace_untraced();
    return state == READY;
}

void mc_trace_untraced(void)
{
    mc_add(&mc_own_region.untagged_allocs, 1);
}

int mc_trace_has_rows(void)
{
    return mc_load_acquire(&mc_trace_state) == READY;
}

void mc_trace_after_fork(int error)
{
    mc_store(&maker, 0);
    if (!error && mc_areas) mc_shards_begin();
    mc_store_release(&mc_trace_state, error ? IMPOSSIBLE : mc_areas ? READY : NONE);
    mc_unwind_epoch_forked();
}

enum { USUAL_DEPTH = 64, MAX_DEPTH = 256 };

/* A depth that another process wrote. */
static uint32_t checked_depth(uint32_t depth)
{
    return depth >= 1 && depth <= MAX_DEPTH ? depth : USUAL_DEPTH;
}

/* The stack to charge: taken again, deeper, if memctl wants to know who calls that one. */
static uint32_t stack_of(unsigned thread, const struct mc_caller *caller, uint32_t flags)
{
    uint32_t stack =
        mc_capture(thread, caller, checked_depth(mc_load(&mc_own_region.depth)), flags);
    uint32_t deeper = mc_load(&mc_own_region.deepen);
    if (likely(!deeper) || !(mc_stacks_flags(stack) & MC_STACK_DEEPEN)) return stack;
    return mc_capture(thread, 0, checked_depth(deeper), flags | MC_STACK_PART);
}

/* What the program asked for: large objects keep it, others have their slack in the tag. */
static uint64_t requested_of(uint64_t tag, uint64_t usable, uint64_t requested)
{
    return requested != MC_REQUESTED_IN_TAG ? requested : usable - mc_tag_slack(tag);
}

/* Of a sampled stack its interval, else 0. */
static uint32_t interval_of(uint32_t stack)
{
    if (likely(!mc_load(&mc_sampling_used)) || stack < MC_STACK_FIRST) return 0;
    unsigned flags = mc_stacks_flags(stack);
    return flags & MC_STACK_SAMPLED ? flags >> MC_STACK_INTERVAL_SHIFT & 31 : 0;
}

static uint32_t count_in(uint32_t stack, uint64_t requested, uint64_t usable)
{
    uint32_t n = interval_of(stack);
    unsigned shard = mc_shard_own();
    return unlikely(n) ? mc_counters_sample_in(shard, stack, n, requested, usable)
                       : mc_counters_in(shard, stack, (struct mc_amount){1, requested, usable});
}

static void count_out(uint32_t stack, uint64_t requested, uint64_t usable, struct mc_life life)
{
    if (mc_load_acquire(&mc_trace_state) != READY)
        return; /* a forked child that could not have a region of its own */
    uint32_t n = interval_of(stack);
    unsigned shard = mc_shard_own();
    if (unlikely(n))
        mc_counters_sample_out(shard, stack, n, requested, usable, life);
    else
        mc_counters_out(shard, stack, (struct mc_amount){1, requested, usable}, life);
}

/* 1 if stacks are neither sampled nor deepened. The two words are read as one. */
static inline int is_plain(void)
{
    enum {
        SAMPLE = offsetof(struct mc_region, sample),
        DEEPEN = offsetof(struct mc_region, deepen)
    };
    _Static_assert(SAMPLE % sizeof(uint64_t) == 0 && DEEPEN == SAMPLE + sizeof(uint32_t), "a word");
    const uint64_t *both = (const void *)&mc_own_region.sample;
    return !mc_peek(&mc_sampling.interval) && !mc_load(both);
}

int mc_trace_is_plain(void)
{
    return likely(mc_shard_is_known()) && likely(is_plain());
}

/* By a walk. Returns the stack counted under. */
static __attribute__((noinline)) uint32_t count_caller_in(unsigned thread,
                                                          const struct mc_caller *caller,
                                                          uint64_t requested, uint64_t usable)
{
    uint32_t n = mc_sampling.interval;
    uint32_t sampled = MC_STACK_SAMPLED | n << MC_STACK_INTERVAL_SHIFT;
    return count_in(stack_of(thread, caller, n ? sampled : 0), requested, usable);
}

/* memctl waits for this to know that what it asked for is in force. */
static inline void answer_commands(void)
{
    uint64_t commands = mc_load(&mc_own_region.commands);
    if (unlikely(mc_peek(&mc_own_region.commands_seen) != commands))
        mc_store(&mc_own_region.commands_seen, commands);
}

uint64_t mc_trace_count_in(unsigned thread, const struct mc_caller *caller, size_t usable,
                           size_t requested, int large)
{
    uint32_t stack =
        caller && is_plain() ? mc_capture_again(caller, mc_load(&mc_own_region.depth)) : 0;
    stack = stack ? count_in(stack, requested, usable)
                  : count_caller_in(thread, caller, requested, usable);
    answer_commands();
    return mc_tag_make(stack, large ? 0 : usable - requested, mc_births_now());
}

void mc_trace_thread(unsigned thread)
{
    if (likely(mc_shard_is_known()) || mc_load_acquire(&mc_trace_state) != READY) return;
    /* What it recalls from now on has to have a row there. */
    if (mc_shard_take(thread)) mc_capture_forget();
}

uint32_t mc_trace_recall(const struct mc_caller *caller)
{
    return mc_capture_again(caller, mc_capture_asked());
}

/* What is recalled has a row: see mc_capture(). */
uint64_t mc_trace_count_recalled_in(uint32_t stack, size_t usable, size_t requested)
{
    struct mc_region_narrow *row = mc_shard_row(stack);
    if (unlikely(!mc_counters_own_in(row, (struct mc_amount){1, requested, usable})))
        stack = count_in(stack, requested, usable);
    /* Stacks that were first met one after the other come so again. */
    __builtin_prefetch(row + 1, 1);
    answer_commands();
    return mc_tag_make(stack, usable - requested, mc_births_now_made());
}

uint64_t mc_trace_count_walked_in(unsigned thread, const struct mc_caller *caller, size_t usable,
                                  size_t requested)
{
    uint32_t stack = count_caller_in(thread, caller, requested, usable);
    answer_commands();
    return mc_tag_make(stack, usable - requested, mc_births_now());
}

uint64_t mc_trace_map_tag(void)
{
    return mc_tag_make(stack_of(0, 0, MC_STACK_MAPPED), 0, mc_births_now());
}

void mc_trace_count_out(uint64_t tag, size_t usable, size_t requested)
{
    count_out(mc_tag_stack(tag), requested_of(tag, usable, requested), usable, mc_births_life(tag));
}

int mc_trace_count_slot_out(uint64_t tag, size_t usable)
{
    if (unlikely(!mc_shard_is_known()) || unlikely(mc_load(&mc_sampling_used))) return 0;
    struct mc_region_narrow *row = mc_shard_row(mc_tag_stack(tag));
    if (unlikely(!mc_area_is_there(row))) return 0;
    struct mc_life life = mc_births_life_until(tag, mc_births_now_made());
    return mc_counters_own_out(row, (struct mc_amount){1, usable - mc_tag_slack(tag), usable},
                               life);
}

void mc_trace_count_undo(uint64_t tag, size_t usable, size_t requested)
{
    count_out(mc_tag_stack(tag), requested_of(tag, usable, requested), usable, (struct mc_life){0});
    mc_trace_untraced();
}

void mc_trace_recount(uint64_t tag, uint64_t usable, uint64_t requested, void *unused)
{
    uint32_t stack = mc_tag_stack(tag);
    (void)unused;
    if (mc_load_acquire(&mc_trace_state) == READY &&
        stack < mc_own_region.areas[MC_AREA_STACKS].count)
        count_in(stack, requested_of(tag, usable, requested), usable);
}

void mc_trace_may_call(int may)
{
    mc_store(&mc_machine_no_calls, !may);
}

int mc_trace_can_read(const void *start, size_t size)
{
    uintptr_t at = (uintptr_t)start, end = at + size;
    if (end < at) return 0;
    for (; at < end; at = (at | (MC_PAGE - 1)) + 1) {
        if (!mc_machine_readable(at & ~(uintptr_t)7)) return 0;
    }
    return 1;
}

size_t mc_trace_stack_above(const void *sp, size_t most)
{
    return mc_stack_above((uintptr_t)sp, most);
}

void mc_trace_unload_begin(void)
{
    mc_unwind_epoch_begin();
}

void mc_trace_unload_end(void)
{
    mc_unwind_epoch_end();
    mc_modules_unloaded();
}
