/* SPDX-License-Identifier: MIT */
/* Readings: what the walks of a thread read, and the stacks that came of it. A walk that would read
 * the same again need not be made.
 *
 *     mc_trail_recall  the stack that a walk from the caller would lead to, if such a walk was made
 *     mc_trail_note_reading, mc_trail_note_stack     a walk was made, and this is its stack
 *
 * A reading is the list of places that one walk read: each frame's return address, and those saved bps
 * that a frame further out uses. They are counted from the caller's sp, since frames of one path are mostly
 * of one size. What is there now, and the caller's bp where a frame uses that, is hashed together with
 * the reading's own number, and looked up among what walks found: 4 instructions a word, none of which
 * waits for another, and no branch that depends on what is read.
 *
 * It is exact for the reason that landing is (trail.h): the walk is a function of what it reads. A walk of
 * these places found these words, so a walk that begins where they are as they were goes there as well. It
 * takes the words for equal if 64 bits of hash are, of which 46 to 53 are compared, with two others:
 * a walk never made before is taken for another one once in 2^45 to 2^52 times.
 * Walks of another epoch, or of a forgotten trail, were hashed with another seed.
 *
 * Places are read between sp and the end of the thread's own stack only. A reading is of one sp, that of a walk
 * which did so, and all readings are forgotten when that end becomes another, or the trail another thread's. So
 * where sp is the same, its places can be read.
 *
 * Which readings to try follows from the caller's sp and return address: a set of four, of which the one that
 * was right last is tried first. Wrong guesses find nothing, and the walk takes their place. Both tables
 * forget what was used long ago, and grow: a thread that allocates in few places has little. */
#ifndef MC_TRAIL_READINGS_H
#define MC_TRAIL_READINGS_H

#include "index.h"
#include "trail.h"

enum { MC_TRAIL_LANES = 4 };

/* Invariants: `count` is a multiple of LANES, more than 0, at most trail->reading_words. */
struct mc_trail_reading {
    uintptr_t sp;      /* the caller's; 0: no reading */
    uint64_t number;   /* a hash of all that follows */
    uintptr_t bp_mask; /* those bits of the caller's bp that matter: all or none */
    uint32_t count;
    uint16_t places[]; /* in words above sp - 8 */
};

static inline size_t mc_trail_reading_bytes(uint32_t words)
{
    return sizeof(struct mc_trail_reading) + words * sizeof(uint16_t);
}

/* Of all that the trail has room for. */
static inline size_t mc_trail_readings_bytes(const struct mc_trail *trail)
{
    return (size_t)trail->sets * MC_TRAIL_WAYS << trail->reading_shift;
}

static inline uintptr_t mc_trail_word(uintptr_t address)
{
    uintptr_t word;
    __builtin_memcpy(&word, (const void *)address, sizeof word);
    return word;
}

/* Where readings for this caller are: their set, and which of all is to be tried first: the one that was
 * right last for such a caller. There are more of these than sets, since callers that share a set have readings
 * of their own in it. It is told by its place, in units that the processor scales. */
enum { MC_TRAIL_UNIT_SHIFT = 3 };
struct mc_trail_choice {
    uintptr_t pc;
    uint16_t *recent;
};

/* Low bits do: all there is to read waits for this. */
static inline struct mc_trail_choice mc_trail_choose(struct mc_trail *trail, uintptr_t sp)
{
    enum { SP_SHIFT = 4, MASK = (1 << MC_TRAIL_RECENT_BITS) - 1 };
    uintptr_t pc = mc_trail_word(sp - sizeof(uintptr_t));
    return (struct mc_trail_choice){pc, &trail->recent[(pc ^ sp >> SP_SHIFT) & MASK]};
}

static inline struct mc_trail_reading *mc_trail_reading_at(const struct mc_trail *trail,
                                                           size_t units)
{
    return (void *)((char *)trail->readings + (units << MC_TRAIL_UNIT_SHIFT));
}

/* Of what is there now, of which reading it is, and of the seed. In lanes of every fourth word, so that no
 * multiplication waits for the one before; nor do those that join them, since all that is known of the stack
 * waits for this. */
static inline uint64_t mc_trail_read(const struct mc_trail_reading *reading,
                                     const struct mc_caller *caller, uint64_t seed)
{
    const uint64_t base = MC_PATH_BASE, stride = base * base * base * base;
    uint64_t first = caller->bp & reading->bp_mask, second = reading->number, third = seed,
             fourth = 0;
    const uint16_t *place = reading->places, *end = place + reading->count;
    uintptr_t words = caller->sp - sizeof(uintptr_t);
    do {
        first = first * stride + mc_trail_word(words + place[0] * sizeof(uintptr_t));
        second = second * stride + mc_trail_word(words + place[1] * sizeof(uintptr_t));
        third = third * stride + mc_trail_word(words + place[2] * sizeof(uintptr_t));
        fourth = fourth * stride + mc_trail_word(words + place[3] * sizeof(uintptr_t));
        place += MC_TRAIL_LANES;
    } while (place != end);
    first += second * base;
    third = third * (base * base) + fourth * (base * base * base);
    return first + third;
}

/* Stacks that walks led to are noted in places of two words, a power of two of them; so many bytes in all. */
enum {
    MC_TRAIL_KNOWN_BYTES = 2 * sizeof(uint64_t),
    MC_TRAIL_KNOWN_MOST = 1 << (MC_TRAIL_KNOWN_BITS_MAX - 1), /* places */
};
_Static_assert(MC_TRAIL_KNOWN_MOST *MC_TRAIL_KNOWN_BYTES <= 1 << MC_INDEX_ID_BITS,
               "which place it is, an entry need not say");

static inline size_t mc_trail_known_bytes(const struct mc_trail *trail)
{
    return trail->known_mask + MC_TRAIL_KNOWN_BYTES;
}

/* The two that a stack may be among: the bits of a key that choose them are not kept in them. */
static inline uint64_t *mc_trail_known_at(const struct mc_trail *trail, uint64_t key)
{
    return (uint64_t *)((char *)trail->known + (key & trail->known_mask));
}

static inline int mc_trail_is_known(uint64_t entry, uint64_t key)
{
    return (entry ^ key) >> MC_INDEX_ID_BITS == 0;
}

/* The stack that a walk led to which read this as it is now; 0 if none is known to. */
static inline __attribute__((always_inline)) uint32_t
mc_trail_recall_by(const struct mc_trail *trail, const struct mc_trail_reading *reading,
                   const struct mc_caller *caller)
{
    enum { ID = (1 << MC_INDEX_ID_BITS) - 1 };
    if (reading->sp != caller->sp) return 0;
    uint64_t key = mc_trail_read(reading, caller, trail->seed);
    const uint64_t *known = mc_trail_known_at(trail, key);
    uint64_t newer = known[0], older = known[1];
    if (mc_trail_is_known(newer, key)) return (uint32_t)newer & ID;
    return mc_trail_is_known(older, key) ? (uint32_t)older & ID : 0;
}

/* By the others of the set. */
__attribute__((noinline)) uint32_t mc_trail_recall_otherwise(struct mc_trail *trail,
                                                             struct mc_trail_choice choice,
                                                             struct mc_caller caller);

/* 0 if that is not known. */
static inline __attribute__((always_inline)) uint32_t
mc_trail_recall(struct mc_trail *trail, const struct mc_caller *caller)
{
    /* Acquire: pairs with mc_unwind_epoch_end, as in mc_unwind. */
    if (unlikely(__atomic_load_n(&mc_rule_epoch, __ATOMIC_ACQUIRE) != trail->epoch)) return 0;
    struct mc_trail_choice choice = mc_trail_choose(trail, caller->sp);
    uint32_t stack = mc_trail_recall_by(trail, mc_trail_reading_at(trail, *choice.recent), caller);
    return likely(stack) ? stack : mc_trail_recall_otherwise(trail, choice, *caller);
}

/* No walk of before is recalled. */
void mc_trail_forget_readings(struct mc_trail *trail);

/* What the walk before, along the trail, has read: the key to note its stack under. In two steps, so that
 * the place of that note comes while the stack is looked for. 0 if there is no room. */
int mc_trail_note_reading(struct mc_trail *trail, const struct mc_caller *caller, uint64_t *key);

/* That walk led to this stack, below 2^MC_INDEX_ID_BITS. */
void mc_trail_note_stack(struct mc_trail *trail, uint64_t key, uint32_t stack);

#endif
