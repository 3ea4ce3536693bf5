/* SPDX-License-Identifier: MIT */
/* The walk along a trail (contract and proof in trail.h).
 *
 * A walk writes its frames to `fresh`, innermost first, and is at a frame whose place, `sp`, is
 * known. `at` is the trail's frame at or above that place. While they are the same it is aligned, and
 * the loops are short: land() looks for an equal return address, follow() takes the trail's places
 * for guesses. Everything else is step(). At the end the trail is what was walked, with what it
 * landed on behind it: the new frames are put in front of that, or, when there is nothing to keep,
 * the two arrays change places. */
#include "trail.h"

#include <errno.h>

#include "rules.h"
#include "unwind_stack.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

enum {
    GIVE_UP = 2,     /* failed landings before a walk goes by rules alone */
    PAYS = 8,        /* frames */
    UNLUCKY = 4,     /* walks without landing before pauses begin */
    LONGEST = 5,     /* 2^LONGEST walks are the longest pause */
    RARE_PAUSE = 31, /* walks left to mc_unwind after as many RAREs as would have been UNLUCKY */
};

uint64_t mc_path_powers[MC_TRAIL_DEPTH_MAX + 1];

void mc_path_powers_make(void)
{
    uint64_t power = 1;
    for (unsigned i = 0; i <= MC_TRAIL_DEPTH_MAX; i++, power *= MC_PATH_BASE)
        __atomic_store_n(&mc_path_powers[i], power, __ATOMIC_RELAXED);
}

struct walk {
    struct mc_trail *trail;
    struct mc_trail_frame *fresh; /* the innermost frame's */
    uintptr_t sp;
    uintptr_t bp; /* as it is in frame `bp_of` */
    uint32_t bp_of;
    uint32_t count;  /* of fresh frames that are walked */
    uint32_t at;     /* in the trail */
    uintptr_t shift; /* while it is beside the trail: how far above frame `at` it is, modulo 2^64 */
    uint32_t land_from;
    uint32_t failed;
    uint64_t sum; /* mc_path_hash of the fresh frames */
    struct mc_stack stack;
};

/* What became of one part of a walk. */
enum progress { ON, LANDED, COMPLETE, CUT, RARE };

static inline uintptr_t word_at(uintptr_t address)
{
    uintptr_t word;
    __builtin_memcpy(&word, (const void *)address, sizeof word);
    return word;
}

/* bp as it is in the frame that the walk is at: what the nearest frame further in that saved it
 * saved, or what it was at the start. */
static uintptr_t find_bp(struct walk *w)
{
    uint32_t i = w->count;
    uintptr_t above = w->sp;
    while (i > w->bp_of) {
        uintptr_t saved = mc_rule_bp(w->fresh[--i].rule);
        if (saved) {
            /* Below its frame, which only an interrupted epilogue has: nothing that could be used. */
            w->bp = above - saved < w->fresh[i].sp ? 0 : word_at(above - saved);
            break;
        }
        above = w->fresh[i].sp;
    }
    w->bp_of = w->count;
    return w->bp;
}

/* The value that bp must have in a frame whose user is `user`. */
static inline uintptr_t needed_bp(const struct mc_trail *trail, uint32_t user)
{
    const struct mc_trail_frame *frame = &trail->frames[user];
    return frame[1].sp - (uintptr_t)mc_rule_cfa(frame->rule);
}

/* That the bp which `frame` saved is what a frame further out needs. One outside the frame is no
 * saved bp: then the check is one that fails. */
static struct mc_trail_check check_of(const struct mc_trail *trail,
                                      const struct mc_trail_frame *frame, uintptr_t saved)
{
    uintptr_t place = frame[1].sp - saved;
    if (place < frame->sp) return (struct mc_trail_check){frame[1].sp - 8, 0};
    return (struct mc_trail_check){place, needed_bp(trail, frame[1].user)};
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
        if (mc_rule_kind(frame->rule) == MC_RULE_BP) frame->user = (uint16_t)i;
        if (saved && outer->user != MC_TRAIL_NO_USER)
            trail->checks[frame->checks++] = check_of(trail, frame, saved);
    }
    trail->settled = first;
}

/* Is all further out than frame `first`, in which the walk is, as it was? If not, *differs is the
 * first frame that is not. */
static int verify(struct walk *w, uint32_t first, uint32_t *differs)
{
    struct mc_trail *trail = w->trail;
    const struct mc_trail_frame *frames = trail->frames;
    *differs = first;
    if (first < trail->settled) settle(trail, first);
    uint32_t user = frames[first].user;
    if (user != MC_TRAIL_NO_USER && find_bp(w) != needed_bp(trail, user)) return 0;
    uint32_t i = first + 1, end = trail->end;
    for (; i + 4 <= end; i += 4) {
        const struct mc_trail_frame *f = &frames[i];
        if (unlikely((word_at(f[0].sp - 8) ^ f[0].pc) | (word_at(f[1].sp - 8) ^ f[1].pc) |
                     (word_at(f[2].sp - 8) ^ f[2].pc) | (word_at(f[3].sp - 8) ^ f[3].pc)))
            break;
    }
    for (; i < end; i++) {
        if (unlikely(word_at(frames[i].sp - 8) != frames[i].pc)) {
            *differs = i;
            return 0;
        }
    }
    for (uint32_t k = 0; k < frames[first].checks; k++)
        if (unlikely(word_at(trail->checks[k].place) != trail->checks[k].value)) return 0;
    return 1;
}

/* Aligned. Tries to land in each frame. ON: no more aligned, or not to be tried again. */
static inline enum progress land(struct walk *w)
{
    struct mc_trail *trail = w->trail;
    const struct mc_trail_frame *old = &trail->frames[w->at],
                                *last = &trail->frames[trail->end - 1];
    struct mc_trail_frame *fresh = &w->fresh[w->count];
    const struct mc_trail_frame *stop = &w->fresh[trail->depth];
    const struct mc_trail_frame *from = &trail->frames[w->land_from];
    const uint64_t *power = &mc_path_powers[w->count];
    uintptr_t sp = w->sp;
    uint64_t sum = w->sum;
    enum progress result = ON;
    while (fresh < stop) {
        uintptr_t pc = word_at(sp - 8);
        if (pc == old->pc && old >= from) {
            w->sp = sp;
            w->count = (uint32_t)(fresh - w->fresh);
            w->at = (uint32_t)(old - trail->frames);
            uint32_t differs;
            if (likely(verify(w, w->at, &differs))) {
                result = LANDED;
                break;
            }
            from = ++w->failed == GIVE_UP ? last + 1 : &trail->frames[differs + 1];
            w->land_from = (uint32_t)(from - trail->frames);
        }
        if (old == last) break;
        uint64_t rule = mc_rule_at(mc_rule_place(pc), pc);
        uintptr_t guess = old[1].sp;
        if (unlikely(pc >> MC_RULE_KEY_BITS) || sp - MC_RULE_SP + mc_rule_without_bp(rule) != guess)
            break;
        fresh->sp = sp;
        fresh->pc = pc;
        fresh->rule = (uint32_t)rule;
        sum += pc * *power++;
        fresh++, old++;
        __asm__("" : "+r"(guess)); /* the guess, or the next load would wait for the sum */
        sp = guess;
    }
    w->sp = sp;
    w->sum = sum;
    w->count = (uint32_t)(fresh - w->fresh);
    w->at = (uint32_t)(old - trail->frames);
    return result;
}

/* The last of the trail's frames that a walk beside it by `shift` may take for a guess. */
static const struct mc_trail_frame *last_within(const struct walk *w, uintptr_t shift)
{
    const struct mc_trail *trail = w->trail;
    const struct mc_trail_frame *last = &trail->frames[trail->end - 1];
    const struct mc_trail_frame *first = &trail->frames[trail->start];
    while (last > first && last->sp + shift - 8 >= w->stack.high)
        last--;
    return last;
}

/* Of a frame whose CFA is reckoned from bp: that CFA; 0 if it makes no sense. The walk is at it. */
static inline uintptr_t cfa_by_bp(struct walk *w, uint64_t rule)
{
    if (!mc_rule_is_data(rule) || mc_rule_kind(rule) != MC_RULE_BP) return 0;
    uintptr_t cfa = find_bp(w) + (uintptr_t)mc_rule_cfa(rule);
    int good =
        cfa % 8 == 0 && cfa > w->sp && cfa <= w->stack.high && cfa - mc_rule_bp(rule) >= w->sp;
    return good ? cfa : 0;
}

/* Aligned, or beside the trail by a shift. Goes as far as guesses are right. A frame of variable size
 * that is of another size than last time leads beside the trail, where frames are guessed to be as
 * far apart as the trail's. */
static inline enum progress follow(struct walk *w)
{
    struct mc_trail *trail = w->trail;
    const struct mc_trail_frame *old = &trail->frames[w->at];
    const struct mc_trail_frame *last = last_within(w, w->shift);
    struct mc_trail_frame *fresh = &w->fresh[w->count];
    const struct mc_trail_frame *stop = &w->fresh[trail->depth];
    const uint64_t *power = &mc_path_powers[w->count];
    uintptr_t sp = w->sp, shift = w->shift, keys = 0;
    uint64_t sum = w->sum;
    for (; old < last && fresh != stop; old++) {
        uintptr_t pc = word_at(sp - 8), guess = old[1].sp + shift;
        uint64_t rule = mc_rule_at(mc_rule_place(pc), pc);
        keys |= pc;
        fresh->sp = sp;
        fresh->pc = pc;
        fresh->rule = (uint32_t)rule;
        if (unlikely(sp - MC_RULE_SP + mc_rule_without_bp(rule) != guess)) {
            w->sp = sp, w->count = (uint32_t)(fresh - w->fresh);
            uintptr_t cfa = cfa_by_bp(w, rule);
            if (!cfa || (cfa != guess && old->rule != (uint32_t)rule)) break;
            shift += cfa - guess;
            if (cfa != guess) last = last_within(w, shift);
            guess = cfa;
        }
        sum += pc * *power++;
        fresh++;
        __asm__("" : "+r"(guess));
        sp = guess;
    }
    w->sp = sp;
    w->sum = sum;
    w->count = (uint32_t)(fresh - w->fresh);
    w->at = (uint32_t)(old - trail->frames);
    w->shift = shift;
    return unlikely(keys >> MC_RULE_KEY_BITS) ? RARE : ON; /* then no rule was theirs */
}

/* To the trail's frame at or above the place where the walk is. */
static inline void realign(struct walk *w)
{
    const struct mc_trail *trail = w->trail;
    w->shift = 0;
    while (w->at > trail->start && trail->frames[w->at - 1].sp >= w->sp)
        w->at--;
    while (w->at < trail->end && trail->frames[w->at].sp < w->sp)
        w->at++;
}

/* One frame by its rule, and the trail's frame at or above the place where that leads. */
static inline enum progress step(struct walk *w)
{
    uintptr_t pc = word_at(w->sp - 8);
    uint64_t rule = mc_rule_find(pc, 0);
    struct mc_trail_frame *fresh = &w->fresh[w->count];
    unsigned kind = mc_rule_kind(rule);
    fresh->sp = w->sp;
    fresh->pc = pc;
    fresh->rule = (uint32_t)rule;
    if (unlikely(kind != MC_RULE_SP)) {
        if (kind == MC_RULE_OUTERMOST || (kind == MC_RULE_START && pc)) {
            w->sum += pc * mc_path_powers[w->count++];
            return COMPLETE;
        }
        if (kind != MC_RULE_BP) return RARE;
    }
    uintptr_t cfa = (kind == MC_RULE_SP ? w->sp : find_bp(w)) + (uintptr_t)mc_rule_cfa(rule);
    if (unlikely(cfa % 8 || cfa <= w->sp || cfa > w->stack.high || cfa - mc_rule_bp(rule) < w->sp))
        return RARE;
    w->sum += pc * mc_path_powers[w->count++];
    w->sp = cfa;
    realign(w);
    return ON;
}

/* All frames that are wanted are there: is there one more? */
static enum progress end_at_depth(struct walk *w)
{
    return word_at(w->sp - 8) ? CUT : RARE;
}

static enum progress go(struct walk *w)
{
    const struct mc_trail *trail = w->trail;
    for (;;) {
        if (unlikely(w->count == trail->depth)) return end_at_depth(w);
        if (w->at < trail->end && trail->frames[w->at].sp + w->shift == w->sp) {
            if (!w->shift && w->land_from < trail->end) {
                if (land(w) == LANDED) return LANDED;
            } else {
                if (follow(w) == RARE) return RARE;
            }
            if (unlikely(w->count == trail->depth)) return end_at_depth(w);
        }
        enum progress progress = step(w);
        if (progress != ON) return progress;
    }
}

/* The trail becomes the fresh frames and those from `from` on. */
static void put(struct mc_trail *trail, const struct mc_trail_frame *fresh, uint32_t count,
                uint32_t from)
{
    trail->repeat.sp = 0;
    if (count <= from) {
        trail->start = from - count;
        if (trail->settled < from) trail->settled = from; /* those before it are others now */
        struct mc_trail_frame *to = &trail->frames[trail->start];
        for (uint32_t i = 0; i < count; i++)
            to[i] = fresh[i];
        return;
    }
    /* No room before it: both go to where fresh frames begin. */
    uint32_t kept = trail->end - from;
    for (uint32_t i = 0; i < kept; i++)
        trail->fresh[trail->depth + count + i] = trail->frames[from + i];
    struct mc_trail_frame *frames = trail->frames;
    trail->frames = trail->fresh;
    trail->fresh = frames;
    trail->start = trail->depth;
    trail->end = trail->settled = trail->depth + count + kept;
}

void mc_trail_forget(struct mc_trail *trail)
{
    trail->start = trail->settled = trail->end = 2 * trail->depth;
    trail->complete = 0;
    trail->repeat.sp = 0;
}

void mc_trail_expect(struct mc_trail *trail, uint32_t stack)
{
    const struct mc_trail_frame *first = &trail->frames[trail->start],
                                *end = &trail->frames[trail->end];
    struct mc_trail_check *words = trail->repeat.words, *word = words;
    for (const struct mc_trail_frame *frame = first; frame < end; frame++)
        *word++ = (struct mc_trail_check){frame->sp - 8, frame->pc};
    /* Where it was cut, the frame there has to be one as before. */
    if (!trail->complete) *word++ = (struct mc_trail_check){end->sp - 8, word_at(end->sp - 8)};
    for (uint32_t i = first->checks; i-- > 0;)
        *word++ = trail->checks[i];
    for (; (word - words) % MC_TRAIL_STRIDE; word++)
        *word = word[-1];
    int uses_bp = first->user != MC_TRAIL_NO_USER;
    trail->repeat.bp = uses_bp ? needed_bp(trail, first->user) : 0;
    trail->repeat.bp_mask = uses_bp ? UINTPTR_MAX : 0;
    trail->repeat.end = word;
    trail->repeat.stack = stack;
    trail->repeat.sp = first->sp;
}

/* Walks whose landing does not pay are not tried to, for a while, the longer the more of them there
 * were. A place to land is where a branch goes as was not predicted, and so is one that turns out to
 * be none; a frame that need not be walked is worth an eighth of that. */
static void note_luck(struct mc_trail *trail, uint32_t kept, uint32_t failed)
{
    if (kept >= PAYS * (1 + failed)) {
        trail->unlucky = 0;
    } else if (trail->pause) {
        trail->pause--;
    } else if (++trail->unlucky >= UNLUCKY) {
        uint32_t much = trail->unlucky - UNLUCKY;
        trail->pause = 1u << (much < LONGEST ? much : LONGEST);
    }
}

/* A walk by rules that found the trail's frames, each in its place. Where nothing can be landed on, or
 * it was not tried, this tells that all is as before. */
static int is_alike(const struct mc_trail *trail, const struct walk *w, enum progress progress)
{
    if (trail->hash != w->sum || trail->end - trail->start != w->count ||
        trail->complete != (progress == COMPLETE))
        return 0;
    const struct mc_trail_frame *old = &trail->frames[trail->start];
    for (uint32_t i = 0; i < w->count; i++) {
        if (old[i].sp != w->fresh[i].sp || old[i].pc != w->fresh[i].pc) return 0;
    }
    return progress == COMPLETE || old[w->count].sp == w->sp;
}

/* The trail becomes what was walked, and *path says what that is. */
static void adopt(struct walk *w, enum progress progress, struct mc_trail_path *path)
{
    struct mc_trail *trail = w->trail;
    if (progress == LANDED) {
        path->hash += mc_path_powers[w->count] * trail->frames[w->at].hash;
        path->same = !w->count && w->at == trail->start;
        if (!path->same) put(trail, w->fresh, w->count, w->at);
    } else if (is_alike(trail, w, progress)) {
        path->same = 1;
        if (trail->settled > trail->start) settle(trail, trail->start);
    } else {
        put(trail, w->fresh, w->count, trail->end = 0);
        trail->complete = progress == COMPLETE;
        if (!trail->complete) trail->frames[trail->end].sp = w->sp;
    }
    trail->hash = path->hash;
    path->first = &trail->frames[trail->start];
}

static int finish(struct walk *w, enum progress progress, struct mc_trail_path *path)
{
    struct mc_trail *trail = w->trail;
    path->landed = progress == LANDED ? trail->end - w->at : 0;
    path->depth = w->count + path->landed;
    path->hash = w->sum;
    path->same = 0;
    path->flags = progress == CUT ? MC_UNWIND_CUT : MC_UNWIND_COMPLETE;
    note_luck(trail, path->landed, w->failed);
    trail->rare = 0;
    if (unlikely(path->depth > trail->depth)) {
        mc_trail_forget(trail);
        return EAGAIN;
    }
    adopt(w, progress, path);
    return 0;
}

int mc_trail_walk(struct mc_trail *trail, const struct mc_caller *caller,
                  struct mc_trail_path *path)
{
    /* Acquire: pairs with mc_unwind_epoch_end, as in mc_unwind. */
    if (unlikely(__atomic_load_n(&mc_rule_unloading, __ATOMIC_ACQUIRE) || caller->sp % 8))
        return EAGAIN;
    if (unlikely(trail->leave)) {
        trail->leave--;
        return EAGAIN;
    }
    struct walk w;
    mc_stack_find(&w.stack, caller->sp - 8, 1);
    if (unlikely(!w.stack.fixed || caller->sp > w.stack.high)) return EAGAIN;
    uint64_t epoch = __atomic_load_n(&mc_rule_epoch, __ATOMIC_ACQUIRE);
    if (unlikely(trail->epoch != epoch || trail->high != w.stack.high)) {
        mc_trail_forget(trail);
        trail->epoch = epoch;
        trail->high = w.stack.high;
    }
    w.trail = trail;
    w.fresh = trail->fresh + trail->depth;
    w.sp = caller->sp;
    w.bp = caller->bp;
    w.bp_of = w.count = w.failed = 0;
    w.sum = 0;
    w.at = trail->start;
    realign(&w);
    w.land_from = trail->complete && !trail->pause ? trail->start : UINT32_MAX;
    enum progress progress = go(&w);
    if (unlikely(progress == RARE)) {
        if (++trail->rare % UNLUCKY == 0) trail->leave = RARE_PAUSE;
        return EAGAIN;
    }
    return finish(&w, progress, path);
}
