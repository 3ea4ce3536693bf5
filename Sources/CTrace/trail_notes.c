/* SPDX-License-Identifier: MIT */
/* See trail_notes.h. */
#include "trail_notes.h"

#include "rules.h"

#define unlikely(x) __builtin_expect(!!(x), 0)

static inline uintptr_t word_at(uintptr_t address)
{
    uintptr_t word;
    __builtin_memcpy(&word, (const void *)address, sizeof word);
    return word;
}

/* No more than a guess where the second and third return address are: a wrong one finds no note. */
struct mc_trail_note *mc_trail_note_at(const struct mc_trail *trail, uintptr_t sp, uintptr_t high)
{
    enum { ADDRESSES = 3 };
    uint64_t key = sp;
    for (unsigned i = 0; i < ADDRESSES; i++) {
        uintptr_t pc = word_at(sp - 8);
        uint64_t rule = mc_rule_at(mc_rule_place(pc), pc);
        uintptr_t next = sp + (uintptr_t)mc_rule_cfa(rule);
        key = (key ^ pc) * MC_PATH_BASE;
        if (!mc_rule_is_data(rule) || mc_rule_kind(rule) != MC_RULE_SP || next <= sp || next > high)
            break;
        sp = next;
    }
    return &trail->notes[key >> (64 - MC_TRAIL_NOTE_BITS)];
}

static inline int are_there(const struct mc_trail_check *words, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (word_at(words[i].place) != words[i].value) return 0;
    return 1;
}

static inline uintptr_t needed_bp_at(const struct mc_trail *trail,
                                     const struct mc_trail_frame *frame)
{
    return frame->user == MC_TRAIL_NO_USER ? 0 : mc_trail_needed_bp(trail, frame->user);
}

uint32_t mc_trail_recall(const struct mc_trail *trail, const struct mc_trail_note *note,
                         const struct mc_caller *caller, const struct mc_trail_frame *same,
                         uint32_t least)
{
    if (note->generation != trail->generation || note->stack < least ||
        note->words[0].place != caller->sp - 8 || (caller->bp & note->bp_mask) != note->bp)
        return 0;
    const struct mc_trail_frame *settled = &trail->frames[trail->settled],
                                *end = &trail->frames[trail->end];
    const struct mc_trail_frame *frame = same < settled ? settled : same;
    while (frame < end && frame->sp < note->sp)
        frame++;
    if (frame >= end || frame->sp != note->sp || frame->hash != note->outer ||
        needed_bp_at(trail, frame) != note->needed_bp)
        return 0;
    return are_there(note->words, MC_TRAIL_NOTE_WORDS) && are_there(trail->checks, frame->checks)
               ? note->stack
               : 0;
}

/* A note that is being taken. */
struct taking {
    struct mc_trail_note *note;
    uint32_t words;
    struct mc_trail_check saved; /* where the last frame that saved bp did; place 0: none did */
};

/* One frame more on the way, whose CFA is `above`. 0: not one to be noted, or there is no room for it
 * and a word for bp. */
static int take_frame(struct taking *taking, const struct mc_trail_frame *frame, uintptr_t above)
{
    uintptr_t saved = mc_rule_bp(frame->rule);
    if (taking->words + 1 >= MC_TRAIL_NOTE_WORDS || mc_rule_kind(frame->rule) != MC_RULE_SP ||
        (saved && above - saved < frame->sp))
        return 0;
    taking->note->words[taking->words++] = (struct mc_trail_check){frame->sp - 8, frame->pc};
    if (saved) taking->saved = (struct mc_trail_check){above - saved, word_at(above - saved)};
    return 1;
}

/* What bp is where the way ends: what was saved last, or the caller's. */
static void take_bp(struct taking *taking, const struct mc_caller *caller)
{
    struct mc_trail_note *note = taking->note;
    if (taking->saved.place) {
        note->words[taking->words++] = taking->saved;
    } else {
        note->bp = caller->bp;
        note->bp_mask = UINTPTR_MAX;
    }
}

void mc_trail_take_note(struct mc_trail *trail, struct mc_trail_note *note,
                        const struct mc_caller *caller, const struct mc_trail_frame *fresh,
                        uint32_t count, const struct mc_trail_frame *landed)
{
    struct taking taking = {.note = note};
    trail->noted = 0;
    if (count == 0) return;
    note->generation = 0; /* until it has a stack */
    for (uint32_t i = 0; i < count; i++) {
        if (!take_frame(&taking, &fresh[i], i + 1 < count ? fresh[i + 1].sp : landed->sp)) return;
    }
    /* On along the trail: where that will have changed a little the note still holds. */
    const struct mc_trail_frame *last = &trail->frames[trail->end - 1];
    while (landed < last && take_frame(&taking, landed, landed[1].sp))
        landed++;
    note->outer = landed->hash;
    note->sp = landed->sp;
    note->bp = note->bp_mask = 0;
    note->needed_bp = needed_bp_at(trail, landed);
    if (landed->user != MC_TRAIL_NO_USER) take_bp(&taking, caller);
    for (uint32_t i = taking.words; i < MC_TRAIL_NOTE_WORDS; i++)
        note->words[i] = note->words[i - 1];
    trail->noted = note;
}
