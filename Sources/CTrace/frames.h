/* SPDX-License-Identifier: MIT */
/* Frames: the tree that backtraces are paths in, outermost frame first, so that they share their outer
 * parts. A frame is named by its record in the region (see memctl_region.h for what one looks like):
 * equal paths of one epoch lead to one frame, but where two threads met it at once. 0 is the root, and
 * no frame. Any thread; no locks. */
#ifndef MC_FRAMES_H
#define MC_FRAMES_H

#include "region.h"

/* The frame of the backtrace's innermost pc, whose `known` outermost ones lead to `frame`; 0 if there is no
 * room. What is new is recorded. Requires known <= depth. */
uint32_t mc_frames_intern(const uint64_t *pcs, uint32_t depth, uint32_t epoch, uint32_t frame,
                          uint32_t known);

/* The frame that called `frame`; 0 if that is the outermost one, or none. */
uint32_t mc_frames_outward(uint32_t frame);

/* 1 if there is such a frame, at `pc` and of that epoch. */
int mc_frames_is(uint32_t frame, uint64_t pc, uint32_t epoch);

/* The address of a frame that is there. */
uint64_t mc_frames_pc(uint32_t frame);

#endif
