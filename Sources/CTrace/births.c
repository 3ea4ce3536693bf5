/* SPDX-License-Identifier: MIT */
/* See births.h. */
#include "births.h"

#include "region.h"

struct mc_births mc_births;

/* What no clock says: as many nanoseconds are more than a second. */
static const uint64_t nowhere[MC_CLOCK_WORDS] = {UINT64_MAX, UINT64_MAX};

/* Words that were the clock's at one moment; NULL: there are none to be confirmed. */
static struct {
    const uint64_t *words; /* [shared] stored last */
    uint64_t moment;
} candidate;

static uint64_t coarse_ns(void)
{
    struct timespec now = {0};
    mc_clock(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t mc_births_from(uint64_t boottime_ns)
{
    return boottime_ns - coarse_ns() % MC_TAG_BIRTH_NS;
}

/* Where the kernel has no code for it. */
static int ask(clockid_t clock, struct timespec *now)
{
    mc_clock(clock, now);
    return 0;
}

/* The two clocks are not read at once, and one is coarse: to the nearest tick. */
void mc_births_make(void)
{
    if (mc_load_acquire(&mc_births.clock)) return;
    uint64_t ns = coarse_ns(), passed = mc_boottime_ns() - mc_own_region.births_from_ns;
    int (*code)(clockid_t, struct timespec *) = mc_load(&mc_clock_code);
    mc_store(&mc_births.origin, (ns - passed + MC_TAG_BIRTH_NS / 2) / MC_TAG_BIRTH_NS);
    mc_store(&mc_births.words, nowhere);
    mc_store_release(&mc_births.clock, code ? code : ask);
}

static struct timespec clock_now(void)
{
    struct timespec now = {0};
    mc_births.clock(CLOCK_MONOTONIC_COARSE, &now);
    return now;
}

static uint64_t moment_of(const struct timespec *now)
{
    return mc_births_moment((uint64_t)now->tv_sec, (uint64_t)now->tv_nsec);
}

/* The clock must stand still while it is looked for. */
void mc_births_look(void)
{
    enum { TRIES = 4 };
    if (mc_load(&mc_births.words) != nowhere) return;
    for (int i = 0; i < TRIES; i++) {
        struct timespec now = clock_now();
        const uint64_t *words = mc_clock_words_find(&now);
        struct timespec then = clock_now();
        if (moment_of(&now) != moment_of(&then)) continue;
        mc_store(&candidate.moment, moment_of(&now));
        mc_store_release(&candidate.words, words); /* pairs with confirm's acquire */
        return;
    }
}

/* Believes the words that moved as the clock did, and forgets those that did not. */
static void confirm(const struct timespec *now, uint64_t tick)
{
    const uint64_t *words = mc_load_acquire(&candidate.words);
    if (likely(!words) || mc_load(&candidate.moment) == moment_of(now)) return;
    uint64_t said =
        mc_births_moment(mc_load(&words[MC_CLOCK_SECONDS]), mc_load(&words[MC_CLOCK_NS]));
    struct timespec then = clock_now();
    if (moment_of(&then) != moment_of(now)) return; /* it moves just now: another time */
    mc_store(&candidate.words, 0);
    if (said != moment_of(now)) return;
    mc_store(&mc_births.seen, moment_of(now) ^ tick);
    mc_store_release(&mc_births.words, words); /* who finds them finds something seen, or asks */
}

uint64_t mc_births_ask(void)
{
    struct timespec now = clock_now();
    uint64_t tick = mc_births_tick(&now) - mc_load(&mc_births.origin);
    if (unlikely(tick > MC_BIRTHS_LAST)) tick = MC_BIRTHS_LAST;
    if (mc_load(&mc_births.words) == nowhere)
        confirm(&now, tick);
    else
        mc_store(&mc_births.seen, moment_of(&now) ^ tick);
    return tick;
}
