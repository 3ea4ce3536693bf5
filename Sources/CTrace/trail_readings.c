/* SPDX-License-Identifier: MIT */
/* See trail_readings.h. */
#include "trail_readings.h"

#include <string.h>

#include "own.h"

/* A reading that is being made. */
struct making {
    struct mc_trail_reading *reading;
    uintptr_t sp;
};

static inline void add_place(struct making *making, uintptr_t address)
{
    uintptr_t place = (address - (making->sp - sizeof(uintptr_t))) / sizeof(uintptr_t);
    making->reading->places[making->reading->count++] = (uint16_t)place;
}

/* The saved bps. 0 if one of them is none: see check_of() in trail_walk.c. */
static int add_checks(struct making *making, const struct mc_trail_check *checks, uint32_t count)
{
    for (uint32_t i = count; i-- > 0;) {
        if (mc_trail_word(checks[i].place) != checks[i].value) return 0;
        add_place(making, checks[i].place);
    }
    return 1;
}

/* A hash of the places and of what bp is to it. In lanes, for the same reason as mc_trail_read(). */
static uint64_t number_of(const struct mc_trail_reading *reading)
{
    const uint64_t base = MC_PATH_BASE, stride = base * base * base * base;
    uint64_t lanes[MC_TRAIL_LANES] = {0}, sum = 0;
    for (uint32_t i = 0; i < reading->count; i += MC_TRAIL_LANES) {
        for (unsigned lane = 0; lane < MC_TRAIL_LANES; lane++)
            lanes[lane] = lanes[lane] * stride + reading->places[i + lane];
    }
    for (unsigned lane = MC_TRAIL_LANES; lane-- > 0;)
        sum = sum * base + lanes[lane];
    return mc_hash_mix(sum, reading->count ^ reading->bp_mask);
}

/* Makes `reading` that of the trail, whose frames are settled. 0 if there is no room. */
static int make(struct mc_trail_reading *reading, const struct mc_trail *trail)
{
    const struct mc_trail_frame *first = &trail->frames[trail->start],
                                *end = &trail->frames[trail->end];
    /* Where it was cut, the frame there has to be one as before. */
    const struct mc_trail_frame *last = trail->complete ? end - 1 : end;
    uint32_t words = (uint32_t)(last + 1 - first) + first->checks;
    struct making making = {reading, first->sp};
    reading->sp = first->sp;
    reading->count = 0;
    reading->extent = (uint32_t)(last->sp - first->sp);
    reading->bp_mask = first->user != MC_TRAIL_NO_USER ? UINTPTR_MAX : 0;
    if (mc_round_up(words, MC_TRAIL_LANES) > trail->reading_words ||
        last->sp - first->sp > UINT16_MAX * sizeof(uintptr_t))
        return 0;
    for (const struct mc_trail_frame *frame = first; frame <= last; frame++)
        add_place(&making, frame->sp - sizeof(uintptr_t));
    if (!add_checks(&making, trail->checks, first->checks)) return 0;
    while (reading->count % MC_TRAIL_LANES)
        add_place(&making, first->sp - sizeof(uintptr_t));
    reading->number = number_of(reading);
    return 1;
}

/* One after the other was too much for the table: one of twice the size, which fills anew, takes its place. */
static void grow(struct mc_trail *trail)
{
    size_t bytes = 2 * (trail->known_mask + 1) * sizeof(uint64_t);
    uint64_t *fresh = mc_own_map(2 * bytes);
    trail->displaced = 0;
    if (!fresh) return;
    if (trail->known != trail->known_first) mc_own_release(trail->known, bytes);
    trail->known = fresh;
    trail->known_mask = 2 * trail->known_mask + 1;
}

void mc_trail_note_stack(struct mc_trail *trail, uint64_t key, uint32_t stack)
{
    enum { MOST = (1 << (MC_TRAIL_KNOWN_BITS_MAX - 1)) - 1 };
    uint64_t *known = mc_trail_known_at(trail, key);
    uint64_t displaced = known[1];
    if (!mc_trail_is_known(known[0], key)) known[1] = known[0];
    known[0] = key >> MC_INDEX_ID_BITS << MC_INDEX_ID_BITS | stack;
    if (displaced && ++trail->displaced > trail->known_mask / 2 && trail->known_mask < MOST)
        grow(trail);
}

static int is_same(const struct mc_trail_reading *one, const struct mc_trail_reading *other)
{
    return one->number == other->number && one->sp == other->sp;
}

/* Where this reading is in its set; where it is to be put, if it is not there. */
static unsigned find_way(const struct mc_trail *trail, size_t set,
                         const struct mc_trail_reading *made)
{
    for (unsigned way = 0; way < MC_TRAIL_WAYS; way++)
        if (is_same(mc_trail_reading_at(trail, set, way), made)) return way;
    return (trail->recent[set] + 1) % MC_TRAIL_WAYS;
}

int mc_trail_note_reading(struct mc_trail *trail, const struct mc_caller *caller, uint64_t *key)
{
    struct mc_trail_reading *made = mc_trail_reading_at(trail, MC_TRAIL_SETS, 0);
    mc_trail_settle(trail);
    if (unlikely(!make(made, trail))) return 0;
    size_t set = mc_trail_set_of(caller->sp);
    unsigned way = find_way(trail, set, made);
    struct mc_trail_reading *reading = mc_trail_reading_at(trail, set, way);
    if (reading->number != made->number) memcpy(reading, made, mc_trail_reading_bytes(made->count));
    trail->recent[set] = (uint8_t)way;
    *key = mc_trail_read(reading, caller, trail->seed);
    __builtin_prefetch(mc_trail_known_at(trail, *key), 1);
    return 1;
}

uint32_t mc_trail_recall_otherwise(struct mc_trail *trail, size_t set,
                                   const struct mc_caller *caller)
{
    for (unsigned i = 1; i < MC_TRAIL_WAYS; i++) {
        unsigned way = (trail->recent[set] + i) % MC_TRAIL_WAYS;
        uint32_t stack = mc_trail_recall_by(trail, mc_trail_reading_at(trail, set, way), caller);
        if (!stack) continue;
        trail->recent[set] = (uint8_t)way;
        return stack;
    }
    return 0;
}
