/* SPDX-License-Identifier: MIT */
/* See stacks.h. */
#include "stacks.h"

#include "index.h"
#include "modules.h"
#include "trail.h"

static struct mc_index stack_index, frame_index;

struct stack_key {
    uint64_t hash;
    uint32_t depth;
};

static int stack_matches(uint32_t id, const void *key)
{
    const struct stack_key *wanted = key;
    const struct mc_region_stack *stack = mc_area_record(MC_AREA_STACKS, id);
    return stack->hash == wanted->hash && stack->depth == wanted->depth &&
           id >= mc_load(&mc_own_region.floor);
}

static int frame_matches(uint32_t id, const void *key)
{
    const struct mc_region_frame *frame = mc_area_record(MC_AREA_FRAMES, id);
    const struct mc_region_frame *wanted = key;
    return frame->pc == wanted->pc && frame->parent == wanted->parent &&
           frame->epoch == wanted->epoch;
}

/* The frame `pc` below `parent`; 0 if there is no room. */
static uint32_t intern_frame(uint64_t pc, uint32_t parent, uint32_t epoch)
{
    struct mc_region_frame wanted = {pc, parent, epoch};
    uint64_t hash = mc_hash_mix(mc_hash_mix(parent, pc), epoch);
    uint32_t id = mc_index_find(&frame_index, hash, frame_matches, &wanted);
    if (id) return id;
    uint64_t fresh = mc_area_append(MC_AREA_FRAMES, 1);
    if (fresh >= 1u << MC_INDEX_ID_BITS) return 0;
    mc_modules_note(pc - 1);
    *(struct mc_region_frame *)mc_area_record(MC_AREA_FRAMES, fresh) = wanted;
    mc_area_publish(MC_AREA_FRAMES, fresh + 1);
    mc_index_add(&frame_index, hash, (uint32_t)fresh);
    return (uint32_t)fresh;
}

static uint32_t append(const struct stack_key *key, const uint64_t *pcs, uint32_t flags,
                       uint32_t epoch)
{
    uint32_t frame = 0;
    for (uint32_t i = key->depth; i-- > 0;) {
        frame = intern_frame(pcs[i], frame, epoch);
        if (!frame) return MC_STACK_OVERFLOW;
    }
    uint64_t id = mc_area_append(MC_AREA_STACKS, 1);
    if (id == UINT64_MAX) return MC_STACK_OVERFLOW;
    *(struct mc_region_stack *)mc_area_record(MC_AREA_STACKS, id) =
        (struct mc_region_stack){key->hash, frame, (uint16_t)key->depth, (uint16_t)flags};
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

uint32_t mc_stacks_find(uint64_t hash, uint32_t depth, uint32_t flags, uint32_t before)
{
    struct stack_key key = key_of(hash, depth, flags, mc_modules_epoch());
    uint32_t next = before + 1;
    uint64_t known = mc_load_acquire(&mc_own_region.areas[MC_AREA_STACKS].count);
    if (likely(next < known) && stack_matches(next, &key)) return next;
    return mc_index_find(&stack_index, key.hash, stack_matches, &key);
}

uint32_t mc_stacks_intern(const uint64_t *pcs, uint32_t depth, uint32_t flags)
{
    uint32_t epoch = mc_modules_epoch();
    struct stack_key key = key_of(path_hash(pcs, depth), depth, flags, epoch);
    uint32_t id = mc_index_find(&stack_index, key.hash, stack_matches, &key);
    if (likely(id)) return id;
    id = append(&key, pcs, flags, epoch);
    if (id == MC_STACK_OVERFLOW) mc_add(&mc_own_region.overflow_stacks, 1);
    return id;
}
