/* SPDX-License-Identifier: MIT */
/* Notes: ways that walks of a thread went lately, from the caller to where they landed, and the stacks
 * that came of it. Programs allocate in loops, in a few places by turns: the outer part of the
 * backtrace stays, the inner part is one of a few.
 *
 * A note is exact for the reason that landing is (trail.h): the walk is a function of what it reads,
 * and all of that is compared. From a caller with this sp, and bp where it matters, a walk that finds
 * the noted words comes to the noted place with bp as it has to be there; and if the trail's frame at
 * that place, which is on the stack as it was, has the noted hash, then what is further out are the
 * same frames. So the whole has the hash by which the stack was found. The trail stays what it is.
 *
 * Notes belong to a trail, and to a generation of it: what makes it forget voids them. Only ways by SP
 * rules, of a few frames, are noted. Where a note is follows from the first three return addresses;
 * a newer one takes the place of an older. */
#ifndef MC_TRAIL_NOTES_H
#define MC_TRAIL_NOTES_H

#include "trail.h"

/* Where the note is for a walk from `sp`, on a stack that ends at `high`. */
struct mc_trail_note *mc_trail_note_at(const struct mc_trail *trail, uintptr_t sp, uintptr_t high);

/* The stack that a walk would lead to which is noted there; 0 if that is not known, or below `least`.
 * From frame `same` on the trail's return addresses are on the stack as they were. */
uint32_t mc_trail_recall(const struct mc_trail *trail, const struct mc_trail_note *note,
                         const struct mc_caller *caller, const struct mc_trail_frame *same,
                         uint32_t least);

/* Notes a walk of `count` fresh frames that may land at frame `landed`, if it is one to be noted, for
 * mc_trail_remember(). */
void mc_trail_take_note(struct mc_trail *trail, struct mc_trail_note *note,
                        const struct mc_caller *caller, const struct mc_trail_frame *fresh,
                        uint32_t count, const struct mc_trail_frame *landed);

#endif
