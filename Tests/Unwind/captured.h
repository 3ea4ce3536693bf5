/* SPDX-License-Identifier: MIT */
/* A backtrace of the test itself, at any depth, and whether its slots are right. */
#ifndef CAPTURED_H
#define CAPTURED_H

#include <stdint.h>

#include "unwind.h"

enum { DEPTH = 200 };

static struct mc_frame_site frames[DEPTH];
static unsigned flags;
static size_t count;
static int sound;
static _Thread_local volatile unsigned sink;

/* To be asked while the frames are there: slots hold what was found in them, and go outwards. */
static int slots_are_sound(void)
{
    for (size_t i = 0; i < count; i++) {
        if (*(uintptr_t *)frames[i].slot != frames[i].pc) return 0;
        if (i && frames[i].slot <= frames[i - 1].slot) return 0;
    }
    return count > 0;
}

static __attribute__((noinline, unused)) void capture(size_t max)
{
    struct mc_unwind_start start;
    MC_UNWIND_CAPTURE(&start);
    count = mc_unwind(&start, frames, max, &flags);
    sound = slots_are_sound();
    sink++;
}

static __attribute__((noinline, unused)) void deep(unsigned depth, void (*last)(size_t), size_t max)
{
    if (depth)
        deep(depth - 1, last, max);
    else
        last(max);
    sink++;
}

#endif
