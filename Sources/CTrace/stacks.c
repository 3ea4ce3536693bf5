/* SPDX-License-Identifier: MIT */
/* See stacks.h. */
#include "stacks.h"

#include "frames.h"
#include "index.h"
#include "modules.h"
#include "trail.h"

struct stack_key {
    uint64_t hash;
    uint32_t depth;
};

/* 0 where a stack is still being written. */
static uint64_t stack_hash(uint32_t id)
{
    const struct mc_region_stack *stack = mc_area_record(MC_AREA_STACKS, id);
    return mc_load_acquire(&stack->hash);
}

static int stack_matches(uint32_t id, const void *key)
{
    const struct stack_key *wanted = key;
    const struct mc_region_stack *stack = mc_area_record(MC_AREA_STACKS, id);
    return stack_hash(id) == wanted->hash && stack->depth == wanted->depth &&
           id >= mc_load(&mc_own_region.floor);
}

MC_TABLE static struct mc_index_tables stack_tables;
static const struct mc_index stack_index = {.records = {MC_TAG_STACK_BITS,
                                                        &mc_own_region.areas[MC_AREA_STACKS].count,
                                                        &mc_own_region.floor, stack_hash},
                                            .tables = &stack_tables};

/* The frame that a stack's `count` outermost ones end in, which is at `pc`; 0 if it is none of this
 * epoch. */
static uint32_t outer_frame(uint32_t id, uint32_t count, uint64_t pc, uint32_t epoch)
{
    const struct mc_region_stack *stack = mc_area_record(MC_AREA_STACKS, id);
    uint32_t frame = stack->depth >= count ? stack->frame : 0;
    for (uint32_t i = stack->depth; i > count && frame; i--)
        frame = mc_frames_outward(frame);
    return mc_frames_is(frame, pc, epoch) ? frame : 0;
}

/* The innermost frame of a backtrace; 0 if there is no room. */
static uint32_t intern_frames(const uint64_t *pcs, uint32_t depth, uint32_t epoch,
                              struct mc_stack_alike alike)
{
    uint32_t shared = alike.shared, frame = 0;
    if (shared) frame = outer_frame(alike.stack, shared, pcs[depth - shared], epoch);
    return mc_frames_intern(pcs, depth, epoch, frame, frame ? shared : 0);
}

static uint32_t append(const struct stack_key *key, const uint64_t *pcs, uint32_t flags,
                       uint32_t epoch, struct mc_stack_alike alike)
{
    if (!mc_index_has_room(&stack_index)) return MC_STACK_OVERFLOW;
    uint32_t frame = intern_frames(pcs, key->depth, epoch, alike);
    if (!frame && key->depth) return MC_STACK_OVERFLOW;
    uint64_t id = mc_area_append(MC_AREA_STACKS, 1);
    if (id == UINT64_MAX) return MC_STACK_OVERFLOW;
    struct mc_region_stack *stack = mc_area_record(MC_AREA_STACKS, id);
    stack->frame = frame;
    stack->depth = (uint16_t)key->depth;
    stack->flags = (uint16_t)flags;
    mc_store_release(&stack->hash, key->hash);
    mc_area_publish(MC_AREA_COUNTERS, id + 1);
    mc_area_publish(MC_AREA_STACKS, id + 1);
    mc_index_add(&stack_index, key->hash, (uint32_t)id);
    if (flags & MC_STACK_CUT) mc_add(&mc_own_region.cut_stacks, 1);
    if (flags & MC_STACK_STOPPED) mc_add(&mc_own_region.stopped_stacks, 1);
    return (uint32_t)id;
}

static uint64_t path_hash(const uint64_t *pcs, uint32_t depth)
{
    uint64_t hash = 0;
    for (uint32_t i = depth; i-- > 0;)
        hash = pcs[i] + MC_PATH_BASE * hash;
    return hash;
}

static struct stack_key key_of(uint64_t hash, uint32_t depth, uint32_t flags, uint32_t epoch)
{
    uint64_t rest = (uint64_t)epoch << 32 | (uint64_t)flags << 12 | depth; /* of 9 bits */
    return (struct stack_key){mc_hash_mix(mc_hash_mix(hash, rest), hash), depth};
}

void mc_stacks_expect(uint64_t hash, uint32_t depth, uint32_t flags)
{
    mc_index_expect(&stack_index, key_of(hash, depth, flags, mc_modules_epoch()).hash);
}

uint32_t mc_stacks_find(uint64_t hash, uint32_t depth, uint32_t flags, uint32_t before)
{
    struct stack_key key = key_of(hash, depth, flags, mc_modules_epoch());
    uint32_t next = before + 1;
    uint64_t known = mc_load_acquire(&mc_own_region.areas[MC_AREA_STACKS].count);
    if (likely(next < known) && stack_matches(next, &key)) return next;
    return mc_index_find(&stack_index, key.hash, stack_matches, &key);
}

uint32_t mc_stacks_add(uint64_t hash, const uint64_t *pcs, uint32_t depth, uint32_t flags,
                       struct mc_stack_alike alike)
{
    uint32_t epoch = mc_modules_epoch();
    struct stack_key key = key_of(hash, depth, flags, epoch);
    uint32_t id = append(&key, pcs, flags, epoch, alike);
    if (id == MC_STACK_OVERFLOW) mc_add(&mc_own_region.overflow_stacks, 1);
    return id;
}

uint32_t mc_stacks_intern(const uint64_t *pcs, uint32_t depth, uint32_t flags,
                          struct mc_stack_alike alike)
{
    uint64_t hash = path_hash(pcs, depth);
    struct stack_key key = key_of(hash, depth, flags, mc_modules_epoch());
    uint32_t id = mc_index_find(&stack_index, key.hash, stack_matches, &key);
    return likely(id) ? id : mc_stacks_add(hash, pcs, depth, flags, alike);
}
