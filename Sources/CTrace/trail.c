/* SPDX-License-Identifier: MIT */
/* Trails by thread number (contract in trail.h; the walk itself is in trail_walk.c). */
#include "trail.h"
#include "bits.h"
#include "own.h"

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

enum { NOTES_BYTES = sizeof(struct mc_trail_note) << MC_TRAIL_NOTE_BITS };
_Static_assert(NOTES_BYTES % MC_PAGE == 0, "arrays begin at a page");

static size_t array_bytes(uint32_t room)
{
    return mc_round_up((2 * room + 1) * sizeof(struct mc_trail_frame), MC_PAGE);
}

static size_t bytes_of(uint32_t room)
{
    size_t words = room + MC_TRAIL_WORDS(room);
    return mc_round_up(sizeof(struct mc_trail) + words * sizeof(struct mc_trail_check), MC_PAGE) +
           NOTES_BYTES + 2 * array_bytes(room);
}

static struct mc_trail *make(uint32_t room)
{
    void *memory = mc_own_map(bytes_of(room));
    if (!memory) return 0;
    char *end = (char *)memory + bytes_of(room);
    struct mc_trail *trail = memory;
    trail->checks = (struct mc_trail_check *)(trail + 1);
    trail->repeat.words = trail->checks + room;
    trail->notes = (struct mc_trail_note *)(void *)(end - 2 * array_bytes(room) - NOTES_BYTES);
    trail->frames = (struct mc_trail_frame *)(void *)(end - 2 * array_bytes(room));
    trail->fresh = (struct mc_trail_frame *)(void *)(end - array_bytes(room));
    trail->room = room;
    mc_path_powers_make();
    return trail;
}

/* Where the trail of thread `number` is noted. */
static struct mc_trail **place_of(unsigned number)
{
    unsigned index = number >> PART_BITS;
    if (!number || index >= PARTS) return 0;
    struct mc_trail **part = mc_load_acquire(&parts[index]);
    if (!part) {
        size_t bytes = PART * sizeof(*part);
        void *fresh = mc_own_map(bytes);
        if (!fresh) return 0;
        if (mc_swap_if(&parts[index], &part, fresh))
            part = fresh;
        else
            mc_own_release(fresh, bytes);
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
        size_t bytes = bytes_of(trail->room);
        mc_trail_own = *place = 0;
        mc_own_release(trail, bytes);
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
