/* SPDX-License-Identifier: MIT */
/* See counters.h. */
#include "counters.h"

#include "sampling.h"

/* A row that somebody may count in, here; 0 if there is no room for it. */
static int is_there(const void *row, uint64_t size)
{
    return likely(mc_area_ensure(row, size));
}

int mc_counters_make(unsigned shard, uint32_t stack)
{
    return !shard || is_there(mc_counters_row(shard, stack), sizeof(struct mc_region_narrow));
}

/* Everybody's row: of the stack, or, with *stack changed, the one that is always there. */
static struct mc_region_counters *shared_row(uint32_t *stack)
{
    struct mc_region_counters *row = mc_counters_shared(*stack);
    if (is_there(row, sizeof(*row))) return row;
    *stack = MC_STACK_OVERFLOW;
    return mc_counters_shared(MC_STACK_OVERFLOW);
}

/* The row in a thread's own shard if there is room, else NULL. */
static struct mc_region_narrow *own_row(unsigned shard, uint32_t stack)
{
    return shard && mc_counters_make(shard, stack) ? mc_counters_row(shard, stack) : 0;
}

/* May be counted in such a row. */
static int fits(struct mc_amount amount, struct mc_life life)
{
    return amount.usable <= MC_COUNTERS_MOST && amount.count <= amount.usable &&
           amount.requested <= amount.usable && life.lifetimes <= MC_COUNTERS_MOST &&
           life.temporary <= amount.count;
}

uint32_t mc_counters_in(unsigned shard, uint32_t stack, struct mc_amount amount)
{
    struct mc_region_narrow *own = fits(amount, (struct mc_life){0}) ? own_row(shard, stack) : 0;
    if (likely(own != 0)) {
        mc_counters_own_in(own, amount);
        return stack;
    }
    uint32_t found = stack;
    struct mc_region_counters *counters = shared_row(&found);
    if (unlikely(found != stack)) mc_add(&mc_own_region.overflow_stacks, 1);
    mc_add(&counters->allocs, amount.count);
    mc_add(&counters->bytes_in, amount.requested);
    mc_add(&counters->usable_in, amount.usable);
    return found;
}

void mc_counters_out(unsigned shard, uint32_t stack, struct mc_amount amount, struct mc_life life)
{
    struct mc_region_narrow *own = fits(amount, life) ? own_row(shard, stack) : 0;
    if (likely(own != 0)) {
        mc_counters_own_out(own, amount, life);
        return;
    }
    uint32_t found = stack;
    struct mc_region_counters *counters = shared_row(&found);
    if (unlikely(found != stack)) mc_add(&mc_own_region.misplaced_frees, 1);
    mc_add(&counters->frees, amount.count);
    mc_add(&counters->bytes_out, amount.requested);
    mc_add(&counters->usable_out, amount.usable);
    if (life.lifetimes) mc_add(&counters->lifetimes, life.lifetimes);
    mc_add(&counters->temporary, life.temporary);
}

/* -- turns: what does not fit in a narrow counter ---------------------------------------------- */

enum { FIELDS = sizeof(struct mc_region_narrow) / sizeof(uint32_t) };
_Static_assert(FIELDS * sizeof(uint64_t) == sizeof(struct mc_region_counters),
               "rows have the same counters, in the same order");

/* There is no room for its turns: what the row has counted, which so far is all in its own words, goes where
 * there always is. The sum is as it was, but for the moment between the two steps. */
static void give_up(uint32_t *counters)
{
    uint64_t *overflow = (uint64_t *)mc_counters_shared(MC_STACK_OVERFLOW);
    mc_add(&mc_own_region.overflow_stacks, 1);
    for (unsigned i = 0; i < FIELDS; i++) {
        uint32_t counted = mc_load(&counters[i]);
        mc_add(&overflow[i], counted);
        mc_counters_add(&counters[i], 0u - counted);
    }
}

/* A signal handler that notes the same ones meanwhile has changed *turns. */
static void note_turns_of(const uint32_t *counter, uint32_t *turns)
{
    uint32_t noted = mc_load(turns), ahead;
    do {
        ahead = ((mc_load(counter) >> MC_TURN_SHIFT) - noted) & 3;
    } while (ahead && !mc_swap_if(turns, &noted, noted + ahead));
}

void mc_counters_note_turns(struct mc_region_narrow *row)
{
    uint32_t *counters = (uint32_t *)row,
             *turns = (uint32_t *)(row + mc_own_region.areas[MC_AREA_COUNTERS].capacity);
    if (!is_there(turns, sizeof(*row))) {
        give_up(counters);
        return;
    }
    /* Whoever finds 0 there after reading a row need not look for its turns. */
    __atomic_fetch_add(&mc_own_region.turns, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < FIELDS; i++)
        note_turns_of(&counters[i], &turns[i]);
}

/* -- sampled stacks: few objects, so everything is everybody's -------------------------------- */

/* The samples of a stack; NULL if there is no room for all that counting it takes. */
static struct mc_region_samples *samples_of(uint32_t stack)
{
    uint32_t found = stack;
    shared_row(&found);
    struct mc_region_samples *samples = mc_area_record(MC_AREA_SAMPLES, stack);
    return found == stack && mc_area_ensure(samples, sizeof(*samples)) ? samples : 0;
}

uint32_t mc_counters_sample_in(unsigned shard, uint32_t stack, uint32_t n, uint64_t requested,
                               uint64_t usable)
{
    struct mc_region_samples *samples = samples_of(stack);
    if (!samples) {
        mc_add(&mc_own_region.overflow_stacks, 1);
        return mc_counters_in(shard, MC_STACK_OVERFLOW, (struct mc_amount){1, requested, usable});
    }
    struct mc_weighed weighed = mc_sampling_weigh(n, requested, usable);
    mc_add(&samples->taken, 1);
    mc_add(&samples->count_square_in, weighed.count_square);
    mc_add(&samples->bytes_square_in, weighed.bytes_square);
    return mc_counters_in(0, stack,
                          (struct mc_amount){weighed.count, weighed.requested, weighed.usable});
}

void mc_counters_sample_out(unsigned shard, uint32_t stack, uint32_t n, uint64_t requested,
                            uint64_t usable, struct mc_life life)
{
    struct mc_region_samples *samples = samples_of(stack);
    if (!samples) {
        mc_add(&mc_own_region.misplaced_frees, 1);
        mc_counters_out(shard, MC_STACK_OVERFLOW, (struct mc_amount){1, requested, usable}, life);
        return;
    }
    struct mc_weighed weighed = mc_sampling_weigh(n, requested, usable);
    life.lifetimes *= weighed.count;
    life.temporary *= weighed.count;
    mc_counters_out(0, stack, (struct mc_amount){weighed.count, weighed.requested, weighed.usable},
                    life);
    mc_add(&samples->freed, 1);
    mc_add(&samples->count_square_out, weighed.count_square);
    mc_add(&samples->bytes_square_out, weighed.bytes_square);
}
