/* SPDX-License-Identifier: MIT */
/* See trail_readings.h. */
#include "trail_readings.h"

#include <string.h>

#include "own.h"

/* A place as readings have it, of a word at `address`. */
static inline uint16_t place_of(uintptr_t sp, uintptr_t address)
{
    return (uint16_t)((address - (sp - sizeof(uintptr_t))) / sizeof(uintptr_t));
}

/* The places of the saved bps, from `places` on. 0 if one of them is none: see check_of() in trail_walk.c. */
static int add_checks(uint16_t *places, uintptr_t sp, const struct mc_trail_check *checks,
                      uint32_t count)
{
    for (uint32_t i = count; i-- > 0;) {
        if (mc_trail_word(checks[i].place) != checks[i].value) return 0;
        *places++ = place_of(sp, checks[i].place);
    }
    return 1;
}

/* A hash of the places and of what bp is to it. In lanes, for the same reason as mc_trail_read(). */
static uint64_t number_of(const uint16_t *places, uint32_t count, uintptr_t bp_mask)
{
    const uint64_t base = MC_PATH_BASE, stride = base * base * base * base;
    uint64_t first = 0, second = 0, third = 0, fourth = 0;
    for (uint32_t i = 0; i < count; i += MC_TRAIL_LANES) {
        first = first * stride + places[i];
        second = second * stride + places[i + 1];
        third = third * stride + places[i + 2];
        fourth = fourth * stride + places[i + 3];
    }
    uint64_t sum = first + base * (second + base * (third + base * fourth));
    return mc_hash_mix(sum, count ^ bp_mask);
}

/* Makes `reading` that of the trail, whose frames are settled. 0 if there is no room. */
static int make(struct mc_trail_reading *reading, const struct mc_trail *trail)
{
    const struct mc_trail_frame *first = &trail->frames[trail->start],
                                *end = &trail->frames[trail->end];
    /* Where it was cut, the frame there has to be one as before. */
    const struct mc_trail_frame *last = trail->complete ? end - 1 : end;
    uint32_t frames = (uint32_t)(last + 1 - first), count = frames + first->checks;
    uintptr_t sp = first->sp;
    uint16_t *places = reading->places;
    if (mc_round_up(count, MC_TRAIL_LANES) > trail->reading_words ||
        last->sp - sp > UINT16_MAX * sizeof(uintptr_t))
        return 0;
    for (uint32_t i = 0; i < frames; i++)
        places[i] = place_of(sp, first[i].sp - sizeof(uintptr_t));
    if (!add_checks(places + frames, sp, trail->checks, first->checks)) return 0;
    while (count % MC_TRAIL_LANES)
        places[count++] = 0;
    reading->sp = sp;
    reading->count = count;
    reading->bp_mask = first->user != MC_TRAIL_NO_USER ? UINTPTR_MAX : 0;
    reading->number = number_of(places, count, reading->bp_mask);
    return 1;
}

/* One after the other was too much for the table: one of twice the size, which fills anew, takes its place. */
static void grow(struct mc_trail *trail)
{
    size_t bytes = mc_trail_known_bytes(trail);
    uint64_t *fresh = mc_own_map_trail(2 * bytes);
    trail->displaced = 0;
    if (!fresh) return;
    if (trail->known != trail->known_first) mc_own_release_trail(trail->known, bytes);
    trail->known = fresh;
    trail->known_mask = 2 * bytes - MC_TRAIL_KNOWN_BYTES;
}

void mc_trail_note_stack(struct mc_trail *trail, uint64_t key, uint32_t stack)
{
    uint64_t *known = mc_trail_known_at(trail, key), places = mc_trail_known_bytes(trail);
    uint64_t displaced = known[1];
    places /= MC_TRAIL_KNOWN_BYTES;
    if (!mc_trail_is_known(known[0], key)) known[1] = known[0];
    known[0] = key >> MC_INDEX_ID_BITS << MC_INDEX_ID_BITS | stack;
    if (displaced && ++trail->displaced >= places / 2 && places < MC_TRAIL_KNOWN_MOST) grow(trail);
}

static int is_same(const struct mc_trail_reading *one, const struct mc_trail_reading *other)
{
    return one->number == other->number && one->sp == other->sp;
}

static size_t units_of(const struct mc_trail *trail, size_t number)
{
    return number << (trail->reading_shift - MC_TRAIL_UNIT_SHIFT);
}

/* The first of a set. */
static size_t set_of(const struct mc_trail *trail, struct mc_trail_choice choice, uintptr_t sp)
{
    enum { SP_SHIFT = 24 }; /* sp's low bits beside those of return addresses */
    uint64_t key = (choice.pc ^ sp << SP_SHIFT) * MC_PATH_BASE;
    return (key >> (64 - MC_TRAIL_SET_BITS) & (trail->sets - 1)) * MC_TRAIL_WAYS;
}

/* Twice as many sets. Readings that would be looked for elsewhere now stay where they are: they are found as
 * what was right last, until others take their place. */
static void add_sets(struct mc_trail *trail)
{
    size_t bytes = mc_trail_readings_bytes(trail);
    struct mc_trail_reading *fresh = mc_own_map_trail(2 * bytes);
    trail->crowded = 0;
    if (!fresh) return;
    memcpy(fresh, trail->readings, bytes);
    if (trail->readings != trail->readings_first) mc_own_release_trail(trail->readings, bytes);
    trail->readings = fresh;
    trail->sets *= 2;
}

/* Where this reading is in its set; where it is to be put, if it is not there: where there is none, or behind
 * the one that was right last. */
static size_t find_place(const struct mc_trail *trail, struct mc_trail_choice choice,
                         const struct mc_trail_reading *made)
{
    size_t set = set_of(trail, choice, made->sp);
    size_t recent = *choice.recent >> (trail->reading_shift - MC_TRAIL_UNIT_SHIFT);
    size_t free = units_of(trail, set + (recent + 1) % MC_TRAIL_WAYS);
    for (size_t way = MC_TRAIL_WAYS; way-- > 0;) {
        size_t place = units_of(trail, set + way);
        if (is_same(mc_trail_reading_at(trail, place), made)) return place;
        if (!mc_trail_reading_at(trail, place)->sp) free = place;
    }
    return free;
}

int mc_trail_note_reading(struct mc_trail *trail, const struct mc_caller *caller, uint64_t *key)
{
    struct mc_trail_reading *made = trail->made;
    mc_trail_settle(trail);
    if (unlikely(!make(made, trail))) return 0;
    struct mc_trail_choice choice = mc_trail_choose(trail, caller->sp);
    size_t place = find_place(trail, choice, made);
    struct mc_trail_reading *reading = mc_trail_reading_at(trail, place);
    if (!is_same(reading, made)) {
        trail->crowded += reading->sp != 0;
        memcpy(reading, made, mc_trail_reading_bytes(made->count));
    }
    trail->has_readings = 1;
    *choice.recent = (uint16_t)place;
    *key = mc_trail_read(reading, caller, trail->seed);
    __builtin_prefetch(mc_trail_known_at(trail, *key), 1);
    if (trail->crowded >= trail->sets && trail->sets < MC_TRAIL_SETS) add_sets(trail);
    return 1;
}

void mc_trail_forget_readings(struct mc_trail *trail)
{
    for (size_t i = 0; trail->has_readings && i < trail->sets * MC_TRAIL_WAYS; i++)
        mc_trail_reading_at(trail, units_of(trail, i))->sp = 0;
    trail->has_readings = 0;
    trail->seed += MC_PATH_BASE;
}

uint32_t mc_trail_recall_otherwise(struct mc_trail *trail, struct mc_trail_choice choice,
                                   struct mc_caller caller)
{
    size_t set = set_of(trail, choice, caller.sp);
    for (size_t way = 0; way < MC_TRAIL_WAYS; way++) {
        size_t place = units_of(trail, set + way);
        if (place == *choice.recent) continue;
        uint32_t stack = mc_trail_recall_by(trail, mc_trail_reading_at(trail, place), &caller);
        if (!stack) continue;
        *choice.recent = (uint16_t)place;
        return stack;
    }
    return 0;
}
