/* SPDX-License-Identifier: MIT */
/* See counters.h. */
#include "counters.h"

#include "sampling.h"

/* A row that somebody may count in; NULL if there is no room for it. */
static struct mc_region_counters *row_if_room(unsigned shard, uint32_t stack)
{
    struct mc_region_counters *counters = mc_counters_row(shard, stack);
    return likely(mc_area_ensure(counters, sizeof(*counters))) ? counters : 0;
}

int mc_counters_make(unsigned thread, uint32_t stack)
{
    return !mc_counters_has_shard(thread) || row_if_room(thread, stack);
}

/* Everybody's row: of the stack, or, with *stack changed, the one that is always there. */
static struct mc_region_counters *shared_row(uint32_t *stack)
{
    struct mc_region_counters *found = row_if_room(0, *stack);
    if (likely(found != 0)) return found;
    *stack = MC_STACK_OVERFLOW;
    return mc_counters_row(0, MC_STACK_OVERFLOW);
}

/* The thread's own row if it may have one and there is room, else NULL. */
static struct mc_region_counters *own_row(unsigned thread, uint32_t stack)
{
    return mc_counters_has_shard(thread) ? row_if_room(thread, stack) : 0;
}

uint32_t mc_counters_in(unsigned thread, uint32_t stack, struct mc_amount amount)
{
    struct mc_region_counters *counters = own_row(thread, stack);
    if (likely(counters != 0)) {
        mc_counters_own_in(counters, amount);
        return stack;
    }
    uint32_t found = stack;
    counters = shared_row(&found);
    if (unlikely(found != stack)) mc_add(&mc_own_region.overflow_stacks, 1);
    mc_add(&counters->allocs, amount.count);
    mc_add(&counters->bytes_in, amount.requested);
    mc_add(&counters->usable_in, amount.usable);
    return found;
}

void mc_counters_out(unsigned thread, uint32_t stack, struct mc_amount amount, struct mc_life life)
{
    struct mc_region_counters *counters = own_row(thread, stack);
    if (likely(counters != 0)) {
        mc_counters_own_out(counters, amount, life);
        return;
    }
    uint32_t found = stack;
    counters = shared_row(&found);
    if (unlikely(found != stack)) mc_add(&mc_own_region.misplaced_frees, 1);
    mc_add(&counters->frees, amount.count);
    mc_add(&counters->bytes_out, amount.requested);
    mc_add(&counters->usable_out, amount.usable);
    mc_add(&counters->lifetimes, life.lifetimes);
    mc_add(&counters->temporary, life.temporary);
}

/* -- sampled stacks: few objects, so everything is everybody's -------------------------------- */

/* The samples of a stack; NULL if there is no room for all that counting it takes. */
static struct mc_region_samples *samples_of(unsigned thread, uint32_t stack)
{
    uint32_t found = stack;
    if (!own_row(thread, stack)) shared_row(&found);
    struct mc_region_samples *samples = mc_area_record(MC_AREA_SAMPLES, stack);
    return found == stack && mc_area_ensure(samples, sizeof(*samples)) ? samples : 0;
}

uint32_t mc_counters_sample_in(unsigned thread, uint32_t stack, uint32_t n, uint64_t requested,
                               uint64_t usable)
{
    struct mc_region_samples *samples = samples_of(thread, stack);
    if (!samples) {
        mc_add(&mc_own_region.overflow_stacks, 1);
        return mc_counters_in(thread, MC_STACK_OVERFLOW, (struct mc_amount){1, requested, usable});
    }
    struct mc_weighed weighed = mc_sampling_weigh(n, requested, usable);
    mc_add(&samples->taken, 1);
    mc_add(&samples->count_square_in, weighed.count_square);
    mc_add(&samples->bytes_square_in, weighed.bytes_square);
    return mc_counters_in(thread, stack,
                          (struct mc_amount){weighed.count, weighed.requested, weighed.usable});
}

void mc_counters_sample_out(unsigned thread, uint32_t stack, uint32_t n, uint64_t requested,
                            uint64_t usable, struct mc_life life)
{
    struct mc_region_samples *samples = samples_of(thread, stack);
    if (!samples) {
        mc_add(&mc_own_region.misplaced_frees, 1);
        mc_counters_out(thread, MC_STACK_OVERFLOW, (struct mc_amount){1, requested, usable}, life);
        return;
    }
    struct mc_weighed weighed = mc_sampling_weigh(n, requested, usable);
    life.lifetimes *= weighed.count;
    life.temporary *= weighed.count;
    mc_counters_out(thread, stack,
                    (struct mc_amount){weighed.count, weighed.requested, weighed.usable}, life);
    mc_add(&samples->freed, 1);
    mc_add(&samples->count_square_out, weighed.count_square);
    mc_add(&samples->bytes_square_out, weighed.bytes_square);
}
