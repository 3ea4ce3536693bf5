/* SPDX-License-Identifier: MIT */
/* See stacks.h. */
#include "stacks.h"

#include "index.h"
#include "modules.h"
#include "trail.h"

static struct mc_index stack_index = {.floor = &mc_own_region.floor}, frame_index;

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

static inline uint64_t *word_at(uint32_t frame)
{
    return mc_area_record(MC_AREA_FRAMES, frame);
}

/* The frame at `pc`, which may be anything where a signal interrupted a wild jump: never a link, never 0. */
static uint64_t word_of(uint64_t pc)
{
    uint64_t word = pc & ~MC_FRAME_LINK;
    return word ? word : 1;
}

/* What a frame is looked up by, if it is not found behind the one it is below. */
struct frame_key {
    uint64_t pc, link;
};

static int frame_matches(uint32_t id, const void *key)
{
    const struct frame_key *wanted = key;
    return mc_load(word_at(id)) == wanted->pc && mc_load(word_at(id - 1)) == wanted->link;
}

/* What is small is spread first: beside pc it would undo the differences of neighbouring pcs. */
static uint64_t frame_hash(uint64_t pc, uint64_t link)
{
    return mc_hash_mix(mc_hash_mix(link, MC_PATH_BASE), pc);
}

static int is_known(uint32_t frame)
{
    return frame && frame < mc_load_acquire(&mc_own_region.areas[MC_AREA_FRAMES].count);
}

/* Is the record after `parent` that frame? It may be another thread's, who is about to write it. */
static int is_next(uint64_t pc, uint32_t parent)
{
    return is_known(parent + 1) && mc_load(word_at(parent + 1)) == pc;
}

/* The frame `pc` below `parent`, which is of this epoch; 0 if there is none yet. */
static uint32_t find_frame(uint64_t pc, uint32_t parent, uint32_t epoch)
{
    struct frame_key wanted = {pc, mc_frame_link(parent, epoch)};
    if (parent && is_next(pc, parent)) return parent + 1;
    return mc_index_find(&frame_index, frame_hash(pc, wanted.link), frame_matches, &wanted);
}

/* New frames, `count` > 0 of them, one below the other, the outermost below `parent`. That one alone is
 * in the index: each of the others follows the frame it is below. Returns the innermost; 0 if there is
 * no room. */
static uint32_t append_frames(const uint64_t *pcs, uint32_t count, uint32_t parent, uint32_t epoch)
{
    uint64_t link = mc_frame_link(parent, epoch), first = mc_area_append(MC_AREA_FRAMES, count + 1);
    if (first >= (1u << MC_INDEX_ID_BITS) - count) return 0;
    uint64_t *words = word_at((uint32_t)first);
    mc_store(&words[0], link);
    for (uint32_t i = 1; i <= count; i++) {
        uint64_t word = word_of(pcs[count - i]);
        mc_modules_note(word - 1);
        mc_store(&words[i], word);
    }
    mc_area_publish(MC_AREA_FRAMES, first + count + 1);
    mc_index_add(&frame_index, frame_hash(word_of(pcs[count - 1]), link), (uint32_t)first + 1);
    return (uint32_t)first + count;
}

uint32_t mc_stacks_outward(uint32_t frame)
{
    uint64_t before = is_known(frame) ? mc_load(word_at(frame - 1)) : 0;
    if (mc_frame_is_link(before)) return mc_frame_parent(before);
    return before ? frame - 1 : 0;
}

/* Of a frame: what the link before it, and before those between, says. */
static uint32_t epoch_of(uint32_t frame)
{
    while (frame && !mc_frame_is_link(mc_load(word_at(frame))))
        frame--;
    return mc_frame_epoch(mc_load(word_at(frame)));
}

/* The frame that a stack's `count` outermost ones end in, which is at `pc`; 0 if it is none of this
 * epoch. */
static uint32_t outer_frame(uint32_t id, uint32_t count, uint64_t pc, uint32_t epoch)
{
    const struct mc_region_stack *stack = mc_area_record(MC_AREA_STACKS, id);
    uint32_t frame = stack->depth >= count ? stack->frame : 0;
    for (uint32_t i = stack->depth; i > count && frame; i--)
        frame = mc_stacks_outward(frame);
    return is_known(frame) && mc_load(word_at(frame)) == pc && epoch_of(frame) == epoch ? frame : 0;
}

/* The innermost frame of a backtrace; 0 if there is no room. From the first that is new on inward, all
 * are: what was not there has nothing below it. */
static uint32_t intern_frames(const uint64_t *pcs, uint32_t depth, uint32_t epoch,
                              struct mc_stack_alike alike)
{
    uint32_t left = depth, frame = 0;
    if (alike.shared) {
        frame = outer_frame(alike.stack, alike.shared, word_of(pcs[depth - alike.shared]), epoch);
        if (frame) left -= alike.shared;
    }
    while (left > 0) {
        uint32_t found = find_frame(word_of(pcs[left - 1]), frame, epoch);
        if (!found) return append_frames(pcs, left, frame, epoch);
        frame = found;
        left--;
    }
    return frame;
}

static uint32_t append(const struct stack_key *key, const uint64_t *pcs, uint32_t flags,
                       uint32_t epoch, struct mc_stack_alike alike)
{
    uint32_t frame = intern_frames(pcs, key->depth, epoch, alike);
    if (!frame && key->depth) return MC_STACK_OVERFLOW;
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
