/* SPDX-License-Identifier: MIT */
/* Births and lives: the time that tags keep, in ticks of MC_TAG_BIRTH_NS since births_from_ns, by a
 * clock that costs next to nothing.
 *
 *     mc_births_now        the tick it is
 *     mc_births_make       makes what that takes, so that mc_births_now_made() need not ask for it
 *     mc_births_look       looks for where the clock's words are
 *
 * The clock is the kernel's coarse one, and ticks are those of that clock: births_from_ns is where
 * one begins. So a tick is the seconds times four and a quarter, less the one it all began with.
 *
 * That clock moves a few hundred times a second. Where its words are known (clock_words.h), they are compared
 * with those it had when the kernel's code was last asked, by whatever thread: while they are the same, so is
 * the tick. Nothing is computed from them, so it does not matter that the kernel may be in the middle of
 * changing them. Seconds are compared modulo 2^25, which are 388 days, four times what a tag can hold. */
#ifndef MC_BIRTHS_H
#define MC_BIRTHS_H

#include "bits.h"
#include "clock_words.h"
#include "counters.h"
#include "vdso.h"

#define MC_BIRTHS_LAST ((1ull << MC_TAG_BIRTH_BITS) - 1)

/* [shared] the first three are the same whoever stores them, `clock` last. */
extern struct mc_births {
    int (*clock)(clockid_t, struct timespec *); /* NULL: not made yet */
    uint64_t origin;                            /* the clock's tick at births_from_ns */
    const uint64_t *words; /* its own, or two that it never has; never NULL once made */
    uint64_t seen; /* a moment that the clock was at, and the tick that is: one ^ the other */
} mc_births;

/* What the clock says, so that two such words are equal but for bits of a tick only if it says the same: it
 * never moves by less than a millisecond, which shows in bits above those. */
static inline uint64_t mc_births_moment(uint64_t seconds, uint64_t ns)
{
    enum { NS_BITS = 30, NS_SHIFT = 9 };
    _Static_assert(1000000 >> (MC_TAG_BIRTH_BITS - NS_SHIFT) > 1, "a millisecond shows");
    _Static_assert(1000000000 < 1 << NS_BITS, "the nanoseconds of a second fit");
    return seconds << (NS_BITS + NS_SHIFT) ^ ns << NS_SHIFT;
}

/* The tick of the clock: what it says over MC_TAG_BIRTH_NS. n * ceil(2^k / d) / 2^k is n / d for all n below
 * 10^9, since the factor is too large by less than 2^k / (10^9 d). */
static inline uint64_t mc_births_tick(const struct timespec *now)
{
    enum { SHIFT = 58, A_SECOND = 1000000000 / MC_TAG_BIRTH_NS };
    const uint64_t factor = ((1ull << SHIFT) + MC_TAG_BIRTH_NS - 1) / MC_TAG_BIRTH_NS;
    return (uint64_t)now->tv_sec * A_SECOND + ((uint64_t)now->tv_nsec * factor >> SHIFT);
}

/* Where births_from_ns has to be, in a region that is made now; `boottime_ns` is the time. */
uint64_t mc_births_from(uint64_t boottime_ns);

/* Requires that there is a region. */
void mc_births_make(void);

/* Requires that they are made. By one thread at a time. */
void mc_births_look(void);

/* By the kernel's code. Requires the same. */
uint64_t mc_births_ask(void);

/* Requires the same. */
static inline uint64_t mc_births_now_made(void)
{
    const uint64_t *words = mc_load(&mc_births.words);
    uint64_t moment =
        mc_births_moment(mc_load(&words[MC_CLOCK_SECONDS]), mc_load(&words[MC_CLOCK_NS]));
    uint64_t tick = moment ^ mc_load(&mc_births.seen);
    return likely(tick <= MC_BIRTHS_LAST) ? tick : mc_births_ask();
}

static inline uint64_t mc_births_now(void)
{
    if (unlikely(!mc_load_acquire(&mc_births.clock))) mc_births_make(); /* pairs with its release */
    return mc_births_now_made();
}

/* How long the object of this tag has lived until then, and whether that was short. */
static inline struct mc_life mc_births_life_until(uint64_t tag, uint64_t end)
{
    uint64_t birth = mc_tag_birth(tag);
    uint64_t ticks = end > birth ? end - birth : 0;
    return (struct mc_life){ticks, ticks <= MC_TEMPORARY_TICKS};
}

static inline struct mc_life mc_births_life(uint64_t tag)
{
    return mc_births_life_until(tag, mc_births_now());
}

#endif
