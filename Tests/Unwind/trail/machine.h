/* SPDX-License-Identifier: MIT */
/* A machine that makes stacks by chance: functions of many shapes call each other, from several
 * places each, by a random sequence, and at every turn the same hook is called.
 *
 * The shapes are chosen for what could deceive a walk along a trail: frames of equal size, so that
 * different callers leave the same places; frame pointers and variable sizes, so that a place
 * depends on a saved register; registers saved where others have nothing; calls at equal depth from
 * another place; tail calls. What the machine does beside calling: leaves many frames at once
 * (longjmp, exceptions), goes on in a signal handler, on the same stack or on an alternate one, or in a coroutine
 * on a stack of its own. */
#ifndef MACHINE_H
#define MACHINE_H

#include <stdint.h>

enum {
    MACHINE_JUMPS = 1,
    MACHINE_SIGNALS = 2,
    MACHINE_COROUTINES = 4,
    MACHINE_THROWS = 8,
};

/* `steps` calls of the hook, more or less, at most `depth` frames deep; `what` are MACHINE_ bits. */
void machine_run(uint64_t seed, unsigned steps, unsigned depth, unsigned what, void (*hook)(void));

/* Calls go(depth), and ends when that does, or an exception ends it. */
void machine_try(void (*go)(unsigned depth), unsigned depth);
void machine_throw(void) __attribute__((noreturn));

#endif
