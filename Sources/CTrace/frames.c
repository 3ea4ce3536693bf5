/* SPDX-License-Identifier: MIT */
/* See frames.h. */
#include "frames.h"

#include "index.h"
#include "modules.h"
#include "trail.h"

static inline uint32_t *word_at(uint32_t frame)
{
    return mc_area_record(MC_AREA_FRAMES, frame);
}

static int is_known(uint32_t frame)
{
    return frame && frame < mc_load_acquire(&mc_own_region.areas[MC_AREA_FRAMES].count);
}

/* -- what a frame looks like ------------------------------------------------------------------ */

/* `prefix` is 0 but for a wide frame. */
struct code {
    uint32_t word, prefix;
};

/* The window of addresses with these bits above, which is made if there is room for one more. The same each
 * time: windows stay, and so does there being no room. */
static uint32_t window_of(uint64_t above)
{
    uint64_t wanted = above + 1;
    for (uint32_t i = 0; i < MC_FRAME_WINDOWS; i++) {
        uint64_t *window = &mc_own_region.frame_windows[i], seen = mc_load_acquire(window);
        if (likely(seen == wanted)) return i + 1;
        if (!seen && (mc_swap_if(window, &seen, wanted) || seen == wanted)) return i + 1;
    }
    return MC_FRAME_WIDE;
}

static struct code code_of(uint64_t pc)
{
    uint64_t address = mc_frame_address(pc);
    uint32_t window = window_of(address >> MC_FRAME_SHIFT);
    return (struct code){mc_frame_word(window, address),
                         unlikely(window == MC_FRAME_WIDE) ? mc_frame_prefix(address) : 0};
}

/* Words before that of a frame that belong to it. */
static uint32_t words_before(uint32_t word)
{
    return mc_frame_window(word) == MC_FRAME_WIDE;
}

uint64_t mc_frames_pc(uint32_t frame)
{
    uint32_t word = mc_load_acquire(word_at(frame)), window = mc_frame_window(word);
    if (unlikely(window == MC_FRAME_WIDE))
        return mc_frame_pc(word, mc_frame_above(mc_load(word_at(frame - 1))));
    uint64_t above = window ? mc_load(&mc_own_region.frame_windows[window - 1]) - 1 : 0;
    return mc_frame_pc(word, above);
}

/* -- frames by what they are below ------------------------------------------------------------ */

/* What a frame is looked up by, if it is not found behind the one it is below. */
struct frame_key {
    struct code code;
    uint32_t link;
};

static int frame_matches(uint32_t id, const void *key)
{
    const struct frame_key *wanted = key;
    if (mc_load(word_at(id)) != wanted->code.word) return 0;
    if (unlikely(wanted->code.prefix))
        return mc_load(word_at(id - 1)) == wanted->code.prefix &&
               mc_load(word_at(id - 2)) == wanted->link;
    return mc_load(word_at(id - 1)) == wanted->link;
}

/* What is small is spread first: beside the word it would undo the differences of neighbouring pcs. */
static uint64_t frame_hash(struct frame_key key)
{
    uint64_t code = (uint64_t)key.code.prefix << 32 | key.code.word;
    return mc_hash_mix(mc_hash_mix(key.link, MC_PATH_BASE), code);
}

/* 0 but for a frame behind a link: only those are in the index. */
static uint64_t hash_behind_link(uint32_t id)
{
    uint32_t word = mc_load_acquire(word_at(id)), before = 1 + words_before(word);
    if (!word || word >> 31 || id < before) return 0;
    struct frame_key key = {{word, before > 1 ? mc_load(word_at(id - 1)) : 0},
                            mc_load(word_at(id - before))};
    if (!mc_frame_is_link(key.link) || (before > 1 && !mc_frame_is_prefix(key.code.prefix)))
        return 0;
    return frame_hash(key);
}

MC_TABLE static struct mc_index_tables frame_tables;
static const struct mc_index frame_index = {
    .records = {MC_INDEX_ID_BITS, &mc_own_region.areas[MC_AREA_FRAMES].count, 0, hash_behind_link},
    .tables = &frame_tables};

/* The frame that follows `parent` if it is that one; 0 if not. It may be another thread's, who is about to
 * write it. */
static uint32_t next_if(struct code code, uint32_t parent)
{
    uint32_t next = parent + 1 + words_before(code.word);
    if (!is_known(next) || mc_load(word_at(next)) != code.word) return 0;
    return unlikely(code.prefix) && mc_load(word_at(next - 1)) != code.prefix ? 0 : next;
}

/* The frame below `parent`, which is of this epoch; 0 if there is none yet. */
static uint32_t find(struct code code, uint32_t parent, uint32_t epoch)
{
    uint32_t next = parent ? next_if(code, parent) : 0;
    if (next) return next;
    struct frame_key wanted = {code, mc_frame_link(parent, epoch)};
    return mc_index_find(&frame_index, frame_hash(wanted), frame_matches, &wanted);
}

static uint32_t words_of(const uint64_t *pcs, uint32_t count)
{
    uint32_t words = count;
    for (uint32_t i = 0; i < count; i++)
        words += words_before(code_of(pcs[i]).word);
    return words;
}

/* New frames, `count` > 0 of them, one below the other, the outermost below `parent`. That one alone is
 * in the index: each of the others follows the frame it is below. Returns the innermost; 0 if there is
 * no room. */
static uint32_t append(const uint64_t *pcs, uint32_t count, uint32_t parent, uint32_t epoch)
{
    uint64_t words = 1 + words_of(pcs, count), first = mc_area_append(MC_AREA_FRAMES, words);
    if (first >= (1u << MC_INDEX_ID_BITS) - words) return 0;
    struct frame_key key = {code_of(pcs[count - 1]), mc_frame_link(parent, epoch)};
    uint32_t *word = word_at((uint32_t)first);
    mc_store(word++, key.link);
    for (uint32_t i = count; i-- > 0;) {
        struct code code = code_of(pcs[i]);
        mc_modules_note(mc_frame_address(pcs[i]) - 1);
        if (unlikely(code.prefix)) mc_store(word++, code.prefix);
        mc_store_release(word++,
                         code.word); /* pairs with those that look beyond what is published */
    }
    mc_area_publish(MC_AREA_FRAMES, first + words);
    mc_index_add(&frame_index, frame_hash(key), (uint32_t)first + 1 + words_before(key.code.word));
    return (uint32_t)(first + words - 1);
}

/* From the first frame that is new on inward, all are: what was not there has nothing below it. */
uint32_t mc_frames_intern(const uint64_t *pcs, uint32_t depth, uint32_t epoch, uint32_t frame,
                          uint32_t known)
{
    for (uint32_t left = depth - known; left > 0; left--) {
        uint32_t found = find(code_of(pcs[left - 1]), frame, epoch);
        if (!found) return append(pcs, left, frame, epoch);
        frame = found;
    }
    return frame;
}

/* -- from a frame outward --------------------------------------------------------------------- */

/* The record before a frame and what belongs to it: of the frame further out, or a link. */
static uint32_t before(uint32_t frame)
{
    uint32_t words = 1 + words_before(mc_load(word_at(frame)));
    return frame > words ? frame - words : 0;
}

uint32_t mc_frames_outward(uint32_t frame)
{
    if (!is_known(frame)) return 0;
    uint32_t outer = before(frame), word = mc_load(word_at(outer));
    if (mc_frame_is_link(word)) return mc_frame_parent(word);
    return word ? outer : 0;
}

/* The link that begins a frame's path. 0 if there is none: records that somebody wrote over. */
static uint32_t root_of(uint32_t frame)
{
    while (frame) {
        uint32_t word = mc_load(word_at(frame)), next = before(frame);
        if (mc_frame_is_link(word)) next = mc_frame_parent(word);
        if (mc_frame_is_link(word) && !next) return word;
        if (next >= frame) break;
        frame = next;
    }
    return 0;
}

int mc_frames_is(uint32_t frame, uint64_t pc, uint32_t epoch)
{
    if (!is_known(frame) || mc_frames_pc(frame) != mc_frame_address(pc)) return 0;
    /* None is of an epoch before the first. */
    return !epoch || root_of(frame) == mc_frame_link(0, epoch);
}
