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

/* The wide row: of the stack, or, with *stack changed, the one that is always there. */
static struct mc_region_counters *wide_row(uint32_t *stack)
{
    struct mc_region_counters *row = mc_counters_wide(*stack);
    if (is_there(row, sizeof(*row))) return row;
    *stack = MC_STACK_OVERFLOW;
    return mc_counters_wide(MC_STACK_OVERFLOW);
}

/* Whoever comes first makes the row; what others made meanwhile stays unused. 0 if there is no room. */
static uint32_t make_common(uint32_t *place)
{
    uint64_t made = mc_area_append(MC_AREA_COMMON, 1);
    if (made == UINT64_MAX) return 0;
    mc_area_publish(MC_AREA_COMMON, made + 1);
    uint32_t row = 0;
    return mc_swap_if(place, &row, (uint32_t)made) ? (uint32_t)made : row;
}

/* The common row of a stack, if there is room for it, else NULL. */
static struct mc_region_narrow *common_row(uint32_t stack)
{
    uint32_t *place = mc_area_record(MC_AREA_PLACES, stack);
    if (!is_there(place, sizeof(*place))) return 0;
    uint32_t row = mc_load(place);
    if (unlikely(!row)) row = make_common(place);
    return row ? mc_area_record(MC_AREA_COMMON, row) : 0;
}

/* The row in a shard that is not wide, if there is room for it, else NULL. */
static struct mc_region_narrow *narrow_row(unsigned shard, uint32_t stack)
{
    if (!shard) return common_row(stack);
    return mc_counters_make(shard, stack) ? mc_counters_row(shard, stack) : 0;
}

/* -- turns: what does not fit in a narrow counter ---------------------------------------------- */

enum { FIELDS = sizeof(struct mc_region_narrow) / sizeof(uint32_t) };
_Static_assert(FIELDS * sizeof(uint64_t) == sizeof(struct mc_region_counters),
               "rows have the same counters, in the same order");

/* Where they are, or would be: common rows are as many as those of a shard. */
static struct mc_region_narrow *turns_of(struct mc_region_narrow *row)
{
    return row + mc_own_region.areas[MC_AREA_COUNTERS].capacity;
}

static int have_place(struct mc_region_narrow *row)
{
    return is_there(turns_of(row), sizeof(*row));
}

/* Whoever notes the same ones meanwhile has changed *turns. */
static void note_turns_of(const uint32_t *counter, uint32_t *turns)
{
    uint32_t noted = mc_load(turns), ahead;
    do {
        ahead = ((mc_load(counter) >> MC_TURN_SHIFT) - noted) & 3;
    } while (ahead && !mc_swap_if(turns, &noted, noted + ahead));
}

/* Requires that they have a place. */
static void note_turns(struct mc_region_narrow *row)
{
    const uint32_t *counters = (const uint32_t *)row;
    uint32_t *turns = (uint32_t *)turns_of(row);
    /* Whoever finds 0 there after reading a row need not look for its turns. */
    __atomic_fetch_add(&mc_own_region.turns, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < FIELDS; i++)
        note_turns_of(&counters[i], &turns[i]);
}

/* -- rows that are not wide -------------------------------------------------------------------- */

/* What is, or may be, a turn. 0: there is no room for it, so nothing was counted. */
static int turn_own_in(struct mc_region_narrow *row, struct mc_amount amount)
{
    if (!have_place(row)) return 0;
    mc_counters_add(&row->allocs, amount.count);
    mc_counters_add(&row->bytes_in, amount.requested);
    mc_counters_add(&row->usable_in, amount.usable);
    note_turns(row);
    return 1;
}

static int turn_own_out(struct mc_region_narrow *row, struct mc_amount amount, struct mc_life life)
{
    if (!have_place(row)) return 0;
    mc_counters_add(&row->frees, amount.count);
    mc_counters_add(&row->bytes_out, amount.requested);
    mc_counters_add(&row->usable_out, amount.usable);
    mc_counters_add(&row->lifetimes, life.lifetimes);
    mc_counters_add(&row->temporary, life.temporary);
    note_turns(row);
    return 1;
}

/* The counters that may turn first. 0: there is no room for the turn, so nothing was added. */
static int add_in_common(struct mc_region_narrow *row, uint32_t *counter, uint64_t amount)
{
    uint32_t seen = mc_load(counter);
    int turns;
    do {
        turns = mc_counters_would_turn(seen, amount);
        if (unlikely(turns) && !have_place(row)) return 0;
    } while (!mc_swap_if(counter, &seen, seen + (uint32_t)amount));
    if (unlikely(turns)) note_turns(row);
    return 1;
}

static int common_in(struct mc_region_narrow *row, struct mc_amount amount)
{
    if (!add_in_common(row, &row->usable_in, amount.usable)) return 0;
    mc_add(&row->allocs, (uint32_t)amount.count);
    mc_add(&row->bytes_in, (uint32_t)amount.requested);
    return 1;
}

/* What of the lifetimes is left to count has no room for a turn. */
static int common_out(struct mc_region_narrow *row, struct mc_amount amount, struct mc_life *life)
{
    if (!add_in_common(row, &row->usable_out, amount.usable)) return 0;
    mc_add(&row->frees, (uint32_t)amount.count);
    mc_add(&row->bytes_out, (uint32_t)amount.requested);
    if (life->temporary) mc_add(&row->temporary, (uint32_t)life->temporary);
    life->temporary = 0;
    if (life->lifetimes && add_in_common(row, &row->lifetimes, life->lifetimes))
        life->lifetimes = 0;
    return 1;
}

/* -- any row ------------------------------------------------------------------------------------ */

/* Returns the stack counted under. */
static uint32_t wide_in(uint32_t stack, struct mc_amount amount)
{
    uint32_t found = stack;
    struct mc_region_counters *row = wide_row(&found);
    if (unlikely(found != stack)) mc_add(&mc_own_region.overflow_stacks, 1);
    mc_add(&row->allocs, amount.count);
    mc_add(&row->bytes_in, amount.requested);
    mc_add(&row->usable_in, amount.usable);
    return found;
}

static void wide_out(uint32_t stack, struct mc_amount amount, struct mc_life life)
{
    uint32_t found = stack;
    struct mc_region_counters *row = wide_row(&found);
    if (unlikely(found != stack)) mc_add(&mc_own_region.misplaced_frees, 1);
    mc_add(&row->frees, amount.count);
    mc_add(&row->bytes_out, amount.requested);
    mc_add(&row->usable_out, amount.usable);
    if (life.lifetimes) mc_add(&row->lifetimes, life.lifetimes);
    mc_add(&row->temporary, life.temporary);
}

/* May be counted in a row that is not wide. */
static int fits(struct mc_amount amount, struct mc_life life)
{
    return amount.usable <= MC_COUNTERS_MOST && amount.count <= amount.usable &&
           amount.requested <= amount.usable && life.lifetimes <= MC_COUNTERS_MOST &&
           life.temporary <= amount.count;
}

uint32_t mc_counters_in(unsigned shard, uint32_t stack, struct mc_amount amount)
{
    struct mc_region_narrow *row = fits(amount, (struct mc_life){0}) ? narrow_row(shard, stack) : 0;
    int counted = row && (shard ? mc_counters_own_in(row, amount) || turn_own_in(row, amount)
                                : common_in(row, amount));
    if (likely(counted)) return stack;
    return wide_in(stack, amount);
}

void mc_counters_out(unsigned shard, uint32_t stack, struct mc_amount amount, struct mc_life life)
{
    struct mc_region_narrow *row = fits(amount, life) ? narrow_row(shard, stack) : 0;
    int counted =
        row && (shard ? mc_counters_own_out(row, amount, life) || turn_own_out(row, amount, life)
                      : common_out(row, amount, &life));
    if (likely(counted) && (shard || !life.lifetimes)) return;
    if (counted) amount = (struct mc_amount){0};
    wide_out(stack, amount, life);
}

/* -- sampled stacks: few objects, so all threads count together -------------------------------- */

/* The samples of a stack; NULL if there is no room for all that counting it takes. */
static struct mc_region_samples *samples_of(uint32_t stack)
{
    uint32_t found = stack;
    wide_row(&found);
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
    return wide_in(stack, (struct mc_amount){weighed.count, weighed.requested, weighed.usable});
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
    wide_out(stack, (struct mc_amount){weighed.count, weighed.requested, weighed.usable}, life);
    mc_add(&samples->freed, 1);
    mc_add(&samples->count_square_out, weighed.count_square);
    mc_add(&samples->bytes_square_out, weighed.bytes_square);
}
