/* SPDX-License-Identifier: MIT */
/* The walk along a trail (contract and proof in trail.h).
 *
 * First the trail is compared with the stack, from the outermost frame inward: the frames from `same`
 * on are there as they were. Then the walk goes outward by rules, from the caller, and writes its
 * frames to `fresh`, innermost first, until it arrives at one of those: it has landed, and what is
 * further out need not be walked. On its way the frames of the trail serve as guesses: while a walk is
 * aligned (at the place of one of them), or beside the trail by a known shift, follow() expects each
 * frame to be as large as the trail's. Everything else is step(). At the end the trail is what was
 * walked, with what it landed on behind it: the new frames are put in front of that, or, when there is
 * nothing to keep, the two arrays change places. */
#include "trail.h"

#include <errno.h>

#include "rules.h"
#include "trail_readings.h"
#include "unwind_stack.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

enum {
    RARES = 4,       /* walks in a row that were not for a trail, before some are not tried */
    RARE_PAUSE = 31, /* those */
};

uint64_t mc_path_powers[MC_TRAIL_DEPTH_MAX + 1];

void mc_path_powers_make(void)
{
    uint64_t power = 1;
    for (unsigned i = 0; i <= MC_TRAIL_DEPTH_MAX; i++, power *= MC_PATH_BASE)
        __atomic_store_n(&mc_path_powers[i], power, __ATOMIC_RELAXED);
}

/* In registers, as far as they go: no function that is not inlined gets its address. */
struct walk {
    const struct mc_trail_frame *old; /* of the trail: at or above the place where the walk is */
    const struct mc_trail_frame
        *same;                    /* from here on the trail is as it was; its end: no landing */
    struct mc_trail_frame *fresh; /* where the next frame is written */
    uintptr_t sp;                 /* the place where it is */
    uintptr_t shift;              /* how far above `old` that is, modulo 2^64, beside the trail */
    uint64_t sum;                 /* mc_path_hash of the fresh frames */
};

/* What does not change meanwhile. */
struct place {
    const struct mc_trail_frame *start, *end; /* of the trail */
    struct mc_trail_frame *first, *stop;      /* of the fresh frames */
    uintptr_t bp, high;                       /* the caller's, and the end of the stack */
};

/* What became of one part of a walk. */
enum progress { ON, LANDED, COMPLETE, CUT, RARE };

static inline uintptr_t word_at(uintptr_t address)
{
    uintptr_t word;
    __builtin_memcpy(&word, (const void *)address, sizeof word);
    return word;
}

/* bp as it is in a frame at `sp`, of which the fresh frames before `end` are further in: what the
 * nearest one saved, or what it was at the start. */
static uintptr_t find_bp(const struct place *place, const struct mc_trail_frame *end, uintptr_t sp)
{
    uintptr_t above = sp;
    for (const struct mc_trail_frame *frame = end; frame != place->first; above = frame->sp) {
        uintptr_t saved = mc_rule_bp((--frame)->rule);
        /* Below its frame, which only an interrupted epilogue has: nothing that could be used. */
        if (saved) return above - saved < frame->sp ? 0 : word_at(above - saved);
    }
    return place->bp;
}

/* That the bp which `frame` saved is what a frame further out needs. One outside the frame is no
 * saved bp: then the check is one that fails. */
static struct mc_trail_check check_of(const struct mc_trail *trail,
                                      const struct mc_trail_frame *frame, uintptr_t saved)
{
    uintptr_t place = frame[1].sp - saved;
    if (place < frame->sp) return (struct mc_trail_check){frame[1].sp - 8, 0};
    return (struct mc_trail_check){place, mc_trail_needed_bp(trail, frame[1].user)};
}

/* Makes frames from `first` on settled. */
static void settle(struct mc_trail *trail, uint32_t first)
{
    const struct mc_trail_frame none = {.user = MC_TRAIL_NO_USER};
    for (uint32_t i = trail->settled; i-- > first;) {
        struct mc_trail_frame *frame = &trail->frames[i];
        const struct mc_trail_frame *outer = i + 1 < trail->end ? frame + 1 : &none;
        uintptr_t saved = mc_rule_bp(frame->rule);
        frame->hash = frame->pc + MC_PATH_BASE * outer->hash;
        frame->checks = outer->checks;
        frame->user = saved ? MC_TRAIL_NO_USER : outer->user;
        if (mc_rule_kind(frame->rule) == MC_RULE_BP) frame->user = (uint16_t)(trail->end - i);
        if (saved && outer->user != MC_TRAIL_NO_USER)
            trail->checks[frame->checks++] = check_of(trail, frame, saved);
    }
    trail->settled = first;
}

/* May the walk go on as the trail does, from frame `at` on, where it is? Its words are as they were; it
 * remains what bp has to be, there and further out. */
static int may_land(const struct place *place, struct mc_trail *trail, uint32_t at,
                    const struct mc_trail_frame *fresh)
{
    if (at < trail->settled) settle(trail, at);
    const struct mc_trail_frame *frame = &trail->frames[at];
    for (uint32_t k = 0; k < frame->checks; k++)
        if (unlikely(word_at(trail->checks[k].place) != trail->checks[k].value)) return 0;
    return frame->user == MC_TRAIL_NO_USER ||
           find_bp(place, fresh, frame->sp) == mc_trail_needed_bp(trail, frame->user);
}

static inline int is_there(const struct mc_trail_frame *frame)
{
    return word_at(frame->sp - 8) == frame->pc;
}

/* The first of the frames that are on the stack as they were, as far as can be told by return
 * addresses; not below `least`. */
static inline const struct mc_trail_frame *unchanged(const struct mc_trail_frame *least,
                                                     const struct mc_trail_frame *end)
{
    for (; end - least >= 4; end -= 4) {
        if (!is_there(&end[-1]) || !is_there(&end[-2]) || !is_there(&end[-3]) ||
            !is_there(&end[-4]))
            break;
    }
    while (end != least && is_there(&end[-1]))
        end--;
    return end;
}

/* The last of the trail's frames that a walk beside it by `shift` may take for a guess. */
static inline const struct mc_trail_frame *last_within(const struct place *place, uintptr_t shift)
{
    const struct mc_trail_frame *last = place->end - 1;
    while (last > place->start && last->sp + shift - 8 >= place->high)
        last--;
    return last;
}

/* Where the guesses end: at the frame to land on, if the walk is aligned. */
static inline const struct mc_trail_frame *last_guess(const struct place *place,
                                                      const struct walk *w)
{
    if (w->shift) return last_within(place, w->shift);
    return w->same != place->end ? w->same : place->end - 1;
}

/* Of a frame whose CFA is reckoned from bp: that CFA; 0 if it makes no sense. */
static uintptr_t cfa_by_bp(const struct place *place, const struct mc_trail_frame *fresh,
                           uintptr_t sp, uint64_t rule)
{
    if (!mc_rule_is_data(rule) || mc_rule_kind(rule) != MC_RULE_BP) return 0;
    uintptr_t cfa = find_bp(place, fresh, sp) + (uintptr_t)mc_rule_cfa(rule);
    int good = cfa % 8 == 0 && cfa > sp && cfa <= place->high && cfa - mc_rule_bp(rule) >= sp;
    return good ? cfa : 0;
}

static inline const uint64_t *power_of(const struct place *place, const struct walk *w)
{
    return &mc_path_powers[w->fresh - place->first];
}

static inline void write_frame(struct mc_trail_frame *fresh, uintptr_t sp, uintptr_t pc,
                               uint64_t rule)
{
    fresh->sp = sp;
    fresh->pc = pc;
    fresh->rule = (uint32_t)rule;
}

/* The rule of a frame that was written with what is in the first of its address' two places. */
static inline uint64_t other_way(struct mc_trail_frame *fresh, uintptr_t pc)
{
    uint64_t rule = mc_rule_at(mc_rule_place(pc) ^ MC_RULE_OTHER_WAY, pc);
    fresh->rule = (uint32_t)rule;
    return rule;
}

/* Aligned, or beside the trail by a shift. Goes as far as guesses are right. A frame of variable size
 * that is of another size than last time leads beside the trail, where frames are guessed to be as
 * far apart as the trail's. Returns 0 if there were addresses that have no rules in the table. */
static inline int follow(const struct place *place, struct walk *w)
{
    const struct mc_trail_frame *old = w->old, *last = last_guess(place, w);
    struct mc_trail_frame *fresh = w->fresh, *stop = place->stop;
    const uint64_t *power = power_of(place, w);
    uintptr_t sp = w->sp, keys = 0;
    uint64_t sum = w->sum;
    for (; old < last && fresh != stop; old++, fresh++) {
        uintptr_t pc = word_at(sp - 8), guess = old[1].sp + w->shift;
        uint64_t rule = mc_rule_at(mc_rule_place(pc), pc);
        keys |= pc;
        write_frame(fresh, sp, pc, rule);
        if (unlikely(sp - MC_RULE_SP + mc_rule_without_bp(rule) != guess)) {
            if (!mc_rule_is_data(rule)) rule = other_way(fresh, pc);
            int is_guess = sp - MC_RULE_SP + mc_rule_without_bp(rule) == guess;
            uintptr_t cfa = is_guess ? guess : cfa_by_bp(place, fresh, sp, rule);
            if (!cfa || (cfa != guess && old->rule != (uint32_t)rule)) break;
            if (cfa != guess) {
                w->shift += cfa - guess;
                last = last_guess(place, w);
            }
            guess = cfa;
        }
        sum += pc * *power++;
        __asm__("" : "+r"(guess)); /* the guess, or the next load would wait for the sum */
        sp = guess;
    }
    w->old = old;
    w->fresh = fresh;
    w->sp = sp;
    w->sum = sum;
    return likely(!(keys >> MC_RULE_KEY_BITS)); /* else no rule was theirs */
}

/* To the trail's frame at or above the place where the walk is. */
static inline void realign(const struct place *place, struct walk *w)
{
    w->shift = 0;
    while (w->old > place->start && w->old[-1].sp >= w->sp)
        w->old--;
    while (w->old < place->end && w->old->sp < w->sp)
        w->old++;
}

/* One frame by its rule. */
static inline enum progress step(const struct place *place, struct walk *w)
{
    uintptr_t sp = w->sp, pc = word_at(sp - 8);
    uint64_t rule = mc_rule_find(pc, 0);
    unsigned kind = mc_rule_kind(rule);
    enum progress progress = ON;
    write_frame(w->fresh, sp, pc, rule);
    if (likely(kind == MC_RULE_SP)) {
        w->sp = sp + (uintptr_t)mc_rule_cfa(rule);
        if (unlikely(w->sp <= sp || w->sp > place->high || w->sp - mc_rule_bp(rule) < sp))
            return RARE;
    } else if (kind == MC_RULE_BP) {
        w->sp = cfa_by_bp(place, w->fresh, sp, rule);
        if (unlikely(!w->sp)) return RARE;
    } else if (kind == MC_RULE_OUTERMOST || (kind == MC_RULE_START && pc)) {
        progress = COMPLETE;
    } else {
        return RARE;
    }
    w->sum += pc * *power_of(place, w);
    w->fresh++;
    return progress;
}

/* All frames that are wanted are there: is there one more? */
static enum progress end_at_depth(uintptr_t sp)
{
    return word_at(sp - 8) ? CUT : RARE;
}

static inline enum progress go(const struct place *place, struct mc_trail *trail, struct walk *w)
{
    for (;;) {
        if (w->old < place->end && w->old->sp + w->shift == w->sp) {
            if (w->old < w->same || w->shift) {
                if (!follow(place, w)) return RARE;
            }
            if (w->old >= w->same && w->old < place->end && w->old->sp == w->sp) {
                if (may_land(place, trail, (uint32_t)(w->old - trail->frames), w->fresh))
                    return LANDED;
                w->same = place->end;
            }
        }
        if (unlikely(w->fresh == place->stop)) return end_at_depth(w->sp);
        enum progress progress = step(place, w);
        if (unlikely(progress != ON)) return progress;
        realign(place, w);
    }
}

/* The trail becomes the fresh frames and those from `from` on: the fewer go to where the others are. */
static void put(struct mc_trail *trail, const struct mc_trail_frame *fresh, uint32_t count,
                uint32_t from)
{
    uint32_t kept = trail->end - from, more = !trail->complete;
    if (trail->settled < from) trail->settled = from;
    if (count <= from && count <= kept) {
        trail->start = from - count;
        struct mc_trail_frame *to = &trail->frames[trail->start];
        for (uint32_t i = 0; i < count; i++)
            to[i] = fresh[i];
        return;
    }
    struct mc_trail_frame *frames = trail->frames;
    for (uint32_t i = 0; i < kept + more; i++)
        trail->fresh[trail->depth + count + i] = frames[from + i];
    trail->frames = trail->fresh;
    trail->fresh = frames;
    trail->start = trail->depth;
    trail->settled += trail->depth + count - from;
    trail->end = trail->depth + count + kept;
}

void mc_trail_settle(struct mc_trail *trail)
{
    if (trail->settled > trail->start) settle(trail, trail->start);
}

void mc_trail_forget(struct mc_trail *trail)
{
    trail->start = trail->settled = trail->end = 2 * trail->depth;
    trail->complete = 0;
    mc_trail_forget_readings(trail);
}

/* A walk by rules that found the trail's frames, each in its place. Where nothing can be landed on, this
 * tells that all is as before. */
static int is_alike(const struct mc_trail *trail, const struct mc_trail_frame *fresh,
                    uint32_t count, uint64_t hash, uintptr_t end)
{
    if (trail->hash != hash || trail->complete || trail->end - trail->start != count) return 0;
    const struct mc_trail_frame *old = &trail->frames[trail->start];
    for (uint32_t i = 0; i < count; i++) {
        if (old[i].sp != fresh[i].sp || old[i].pc != fresh[i].pc) return 0;
    }
    return old[count].sp == end;
}

/* The trail becomes what was walked by rules alone. 1 if it was that. */
static int replace(struct mc_trail *trail, const struct mc_trail_frame *fresh, uint32_t count,
                   uint64_t hash, uintptr_t end, int complete)
{
    if (!complete && is_alike(trail, fresh, count, hash, end)) {
        mc_trail_settle(trail);
        return 1;
    }
    trail->settled = trail->end = 0;
    put(trail, fresh, count, 0);
    trail->complete = (uint32_t)complete;
    if (!complete) trail->frames[trail->end].sp = end;
    return 0;
}

/* The trail ends before frame `end`: it is cut there, so that nothing is known of how it goes on. */
static void cut(struct mc_trail *trail, uint32_t end)
{
    trail->end = trail->settled = end;
    trail->complete = 0;
}

/* The trail becomes what was walked, and *path says what that is. */
static void adopt(const struct place *place, struct mc_trail *trail, const struct walk *w,
                  enum progress progress, struct mc_trail_path *path)
{
    uint32_t count = (uint32_t)(w->fresh - place->first);
    path->hash = w->sum;
    path->flags = progress == CUT ? MC_UNWIND_CUT : MC_UNWIND_COMPLETE;
    path->depth = count;
    path->landed = 0;
    if (progress == LANDED) {
        uint32_t at = (uint32_t)(w->old - trail->frames);
        path->same = !count && at == trail->start;
        path->landed = trail->end - at;
        path->hash += mc_path_powers[count] * w->old->hash;
        if (unlikely(count + path->landed > trail->depth)) {
            path->landed = trail->depth - count;
            path->hash -= mc_path_powers[trail->depth] * w->old[path->landed].hash;
            path->flags = MC_UNWIND_CUT;
            cut(trail, at + path->landed);
        }
        path->depth += path->landed;
        if (!path->same) put(trail, place->first, count, at);
    } else {
        path->same = replace(trail, place->first, count, path->hash, w->sp, progress == COMPLETE);
    }
    trail->hash = path->hash;
    path->first = &trail->frames[trail->start];
}

int mc_trail_walk(struct mc_trail *trail, const struct mc_caller *caller,
                  struct mc_trail_path *path)
{
    /* Acquire: pairs with mc_unwind_epoch_end, as in mc_unwind. */
    uint64_t epoch = __atomic_load_n(&mc_rule_epoch, __ATOMIC_ACQUIRE);
    if (unlikely(mc_rule_unloading(epoch) || caller->sp % 8)) return EAGAIN;
    if (unlikely(trail->leave)) {
        trail->leave--;
        return EAGAIN;
    }
    struct mc_stack stack;
    mc_stack_find(&stack, caller->sp - 8, 1);
    if (unlikely(!stack.fixed || caller->sp > stack.high)) return EAGAIN;
    if (unlikely(trail->epoch != epoch || trail->high != stack.high)) {
        mc_trail_forget(trail);
        trail->epoch = epoch;
        trail->high = stack.high;
    }
    struct mc_trail_frame *first = trail->fresh + trail->depth;
    const struct place place = {.start = &trail->frames[trail->start],
                                .end = &trail->frames[trail->end],
                                .first = first,
                                .stop = first + trail->depth,
                                .bp = caller->bp,
                                .high = stack.high};
    struct walk w = {.old = place.start, .fresh = first, .sp = caller->sp};
    realign(&place, &w);
    w.same = trail->complete ? unchanged(w.old, place.end) : place.end;
    enum progress progress = go(&place, trail, &w);
    if (unlikely(progress == RARE)) {
        if (++trail->rare % RARES == 0) trail->leave = RARE_PAUSE;
        return EAGAIN;
    }
    trail->rare = 0;
    adopt(&place, trail, &w, progress, path);
    return 0;
}
