/* SPDX-License-Identifier: MIT */
/* Trails by thread number (contract in trail.h; the walk itself is in trail_walk.c). */
#include "trail.h"
#include "bits.h"
#include "own.h"
#include "trail_readings.h"

/* A table of tables, made as numbers come up, so that neither the first thread nor the ten thousandth
 * pays for the others. */
enum { PART_BITS = 9, PART = 1 << PART_BITS, PARTS = 1024, USUAL = 64 };

MC_TABLE static struct mc_trail **parts[PARTS]; /* [shared] */

__thread struct mc_trail *mc_trail_own;

/* Rooms are of two sizes, so that the depth may change to and fro without mapping anything. */
static uint32_t room_for(uint32_t depth)
{
    return depth <= USUAL ? USUAL : MC_TRAIL_DEPTH_MAX;
}

/* Of a reading: room for all frames, and for more saved bps than hardly a path of so many has. */
enum { READING_SHIFT = 8, READING_SHIFT_DEEP = 10 };
_Static_assert(MC_TRAIL_SETS *MC_TRAIL_WAYS << READING_SHIFT_DEEP >> MC_TRAIL_UNIT_SHIFT <=
                   UINT16_MAX + 1,
               "16 bits tell the place of any reading");

static uint32_t reading_shift_for(uint32_t room)
{
    return room <= USUAL ? READING_SHIFT : READING_SHIFT_DEEP;
}

static uint32_t reading_words_for(uint32_t room)
{
    size_t bytes = (size_t)1 << reading_shift_for(room);
    return (uint32_t)((bytes - sizeof(struct mc_trail_reading)) / sizeof(uint16_t));
}

static size_t array_bytes(uint32_t room)
{
    return mc_round_up((2 * room + 1) * sizeof(struct mc_trail_frame), MC_PAGE);
}

/* Those it begins with. */
static size_t readings_bytes(uint32_t room)
{
    size_t count = MC_TRAIL_SETS_FIRST * MC_TRAIL_WAYS;
    return mc_round_up(count << reading_shift_for(room), MC_PAGE);
}

enum { KNOWN_BYTES = sizeof(uint64_t) << MC_TRAIL_KNOWN_BITS };
_Static_assert(KNOWN_BYTES % MC_PAGE == 0, "arrays begin at a page");

static size_t bytes_of(uint32_t room)
{
    return mc_round_up(sizeof(struct mc_trail) + room * sizeof(struct mc_trail_check) +
                           (1u << reading_shift_for(room)),
                       MC_PAGE) +
           KNOWN_BYTES + readings_bytes(room) + 2 * array_bytes(room);
}

/* From the end of its memory down. */
static void *take_array(char **end, size_t bytes)
{
    return *end -= bytes;
}

static struct mc_trail *make(uint32_t room)
{
    struct mc_trail *trail = mc_own_map_trail(bytes_of(room));
    if (!trail) return 0;
    char *end = (char *)trail + bytes_of(room);
    trail->checks = (struct mc_trail_check *)(trail + 1);
    trail->frames = take_array(&end, array_bytes(room));
    trail->fresh = take_array(&end, array_bytes(room));
    trail->known = trail->known_first = take_array(&end, KNOWN_BYTES);
    trail->known_mask = KNOWN_BYTES - MC_TRAIL_KNOWN_BYTES;
    trail->readings = trail->readings_first = take_array(&end, readings_bytes(room));
    trail->made = (struct mc_trail_reading *)(trail->checks + room);
    trail->sets = MC_TRAIL_SETS_FIRST;
    trail->reading_words = reading_words_for(room);
    trail->reading_shift = reading_shift_for(room);
    trail->room = room;
    mc_path_powers_make();
    return trail;
}

static void release(struct mc_trail *trail)
{
    size_t bytes = bytes_of(trail->room);
    if (trail->known != trail->known_first)
        mc_own_release_trail(trail->known, mc_trail_known_bytes(trail));
    if (trail->readings != trail->readings_first)
        mc_own_release_trail(trail->readings, mc_trail_readings_bytes(trail));
    mc_own_release_trail(trail, bytes);
}

/* Where the trail of thread `number` is noted. */
static struct mc_trail **place_of(unsigned number)
{
    unsigned index = number >> PART_BITS;
    if (!number || index >= PARTS) return 0;
    struct mc_trail **part = mc_load_acquire(&parts[index]);
    if (!part) {
        size_t bytes = PART * sizeof(*part);
        void *fresh = mc_own_map_trail(bytes);
        if (!fresh) return 0;
        if (mc_swap_if(&parts[index], &part, fresh))
            part = fresh;
        else
            mc_own_release_trail(fresh, bytes);
    }
    return &part[number & (PART - 1)];
}

/* Only one living thread has the number, and it is the caller. */
__attribute__((noinline)) static struct mc_trail *take(unsigned number, uint32_t depth)
{
    struct mc_trail **place = place_of(number);
    if (!place) return 0;
    struct mc_trail *trail = *place;
    if (trail && trail->room < depth) {
        mc_trail_own = *place = 0;
        release(trail);
        trail = 0;
    }
    if (!trail) *place = trail = make(room_for(depth));
    if (trail) {
        trail->depth = depth;
        mc_trail_forget(trail);
    }
    return mc_trail_own = trail;
}

struct mc_trail *mc_trail_take(unsigned number, uint32_t depth)
{
    struct mc_trail *trail = mc_trail_own;
    return likely(trail && trail->depth == depth) ? trail : take(number, depth);
}
