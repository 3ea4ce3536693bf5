/* SPDX-License-Identifier: MIT */
/* A trail: the frames a thread's last backtrace went by, kept so that the next one need not find
 * them anew. Allocations follow each other: most frames of a backtrace are those of the one before.
 *
 *     mc_trail_take    the thread's trail
 *     mc_trail_walk    the backtrace of a caller, along the trail; becomes the trail
 *
 * What makes it exact. A walk is a function: from (pc, sp, bp) of a frame the rule of pc says which
 * words of the stack give the next frame's: its pc, and its bp where the rule restores that. So,
 * rules being equal, a walk that arrives at a frame of the trail in the same state goes on as the
 * trail did if it would read the same words. They need not be read in order, since the trail knows
 * where they are: equal pc in equal places from there to the outermost frame, and equal bp where a
 * frame's rule uses it, prove all of it by induction. Nothing is taken on trust:
 *   1. Rules are equal within an epoch: a trail of another epoch is forgotten.
 *   2. The state is equal: same pc in the same place, and bp the same unless no frame further out
 *      uses it before it is restored from memory. What bp has to be follows from the trail's own
 *      places: sp of the next frame less what the rule adds.
 *   3. Words are read only between sp and the end of the stack that this thread runs on, all of
 *      which is readable: a trail is kept for the main and threads' own stacks only, and forgotten
 *      when the end is another. A coroutine's stack, which may be unmapped unseen, has no trail.
 *   4. Only frames whose rule is SP or BP are ever part of what is proven this way, and the outermost
 *      one, which ends the walk by its rule. A walk that meets another frame (signal, guess,
 *      realigned, none) leaves nothing to land on.
 * Where it does not hold the walk goes on by rules, frame by frame. There the trail serves as a
 * guess: a frame is expected to begin where the last walk's did. Comparing the CFA with that is a
 * branch that the processor predicts, so that it reads the next return address before it knows the
 * rule, and the chain of loads (return address, rule, next return address) is none any more.
 * A wrong guess costs time only.
 *
 * Which of the two is tried first goes by recent success: trail->unlucky.
 *
 * A trail belongs to the thread with its number, and to it alone; it is not to be used by a signal
 * handler that interrupted its own use. A thread that takes a dead one's number takes its trail. */
#ifndef MC_TRAIL_H
#define MC_TRAIL_H

#include "caller.h"
#include "rules.h"
#include "unwind.h"

enum { MC_TRAIL_DEPTH_MAX = 256, MC_TRAIL_NO_USER = UINT16_MAX };

/* A frame; innermost first. `hash`, `user` and `checks` are there for settled frames only. */
struct mc_trail_frame {
    uintptr_t sp;  /* above the return address */
    uintptr_t pc;  /* that return address */
    uint64_t hash; /* mc_path_hash of this frame and all further out */
    uint32_t rule; /* of pc */
    uint16_t user; /* the frame, this or further out, whose rule uses bp as it is here, counted from
                        the end; or none */
    uint16_t checks; /* how many of trail->checks belong to this frame and all further out */
};

/* A word that has to be on the stack: a saved bp that some frame's rule uses, or a return address. */
struct mc_trail_check {
    uintptr_t place, value;
};

/* Where walks read, and what came of it: trail_readings.h. */
struct mc_trail_reading;
enum {
    MC_TRAIL_SET_BITS = 7,
    MC_TRAIL_SETS = 1 << MC_TRAIL_SET_BITS, /* at most */
    MC_TRAIL_SETS_FIRST = 8,
    MC_TRAIL_RECENT_BITS = 10,
    MC_TRAIL_WAYS = 4, /* readings of a set */
    MC_TRAIL_KNOWN_BITS = 9,
    MC_TRAIL_KNOWN_BITS_MAX = 16,
};

/* Invariants: start <= settled <= end <= 2 * depth <= 2 * room; sp grows with the index, and is at most `high`;
 * frames [settled, end) are settled, and so are as many checks as frames[settled] says. Of a trail that was
 * cut, frames[end] is there as well: only its sp is known. */
struct mc_trail {
    uint64_t epoch;                        /* mc_rule_epoch of what it was found by */
    uint64_t hash;                         /* mc_path_hash of all frames */
    uintptr_t high;                        /* end of the stack it lies on */
    struct mc_trail_frame *frames, *fresh; /* 2 * room + 1 each: the trail, and the walk going on */
    struct mc_trail_check *checks;         /* room of them */
    uint32_t start, settled, end;
    uint32_t room;     /* the depth it was made for */
    uint32_t depth;    /* of walks: at most so many frames */
    uint32_t complete; /* the last frame is the outermost: walks may land; 0: it was cut */
    uint32_t rare;     /* walks in a row that were not for it */
    uint32_t leave;    /* walks to go before it is tried again */
    uint32_t stack, stack_flags; /* what the frames are: for mc_capture() */

    /* Readings, and the stacks that walks led to, two to a place. */
    uint64_t seed;                                      /* another one whenever all is forgotten */
    struct mc_trail_reading *readings, *readings_first; /* sets * WAYS; those it began with */
    struct mc_trail_reading *made;                      /* [const] one that is being made */
    uint32_t sets;                                      /* a power of two, at most SETS */
    uint32_t crowded; /* readings that others took the place of since there were as many sets */
    uint32_t reading_shift;        /* [const] each takes 2^reading_shift bytes */
    uint32_t reading_words;        /* [const] that there is room for */
    uint32_t has_readings;         /* 1: some are not forgotten */
    uint64_t *known, *known_first; /* places of two words; those it began with */
    uint64_t known_mask;           /* of a place's offset in bytes */
    uint64_t displaced; /* known ones that others took the place of since the table grew */
    uint16_t recent[1 << MC_TRAIL_RECENT_BITS]; /* which reading to try first: see there */
};

/* The value that bp must have in a frame whose user is `user`. */
static inline uintptr_t mc_trail_needed_bp(const struct mc_trail *trail, uint32_t user)
{
    const struct mc_trail_frame *frame = &trail->frames[trail->end - user];
    return frame[1].sp - (uintptr_t)mc_rule_cfa(frame->rule);
}

/* The walk's result: frames [first, first + depth) of the trail, MC_UNWIND_ flags, the hash of all
 * frames; `same`: they are those of the walk before. */
struct mc_trail_path {
    const struct mc_trail_frame *first;
    uint32_t depth;
    unsigned flags;
    uint64_t hash;
    int same;
    uint32_t landed; /* frames that were not walked */
};

/* The trail of the calling thread, whose number is `number` (from 1), for walks of at most `depth`
 * frames; NULL if there is no memory or no number. */
struct mc_trail *mc_trail_take(unsigned number, uint32_t depth);

/* [owner] The same, if it was taken before: a trail is far off, and a thread has few bytes of its own
 * at hand. */
extern __thread struct mc_trail *mc_trail_own;

/* Walks find nothing to land on, and no stack is recalled. */
void mc_trail_forget(struct mc_trail *trail);

/* 0, or EAGAIN where the walk has to be made by mc_unwind: nothing is in *path then. */
int mc_trail_walk(struct mc_trail *trail, const struct mc_caller *caller,
                  struct mc_trail_path *path);

/* Makes all its frames settled ones. */
void mc_trail_settle(struct mc_trail *trail);

/* The hash of a path: a polynomial of its pcs in MC_PATH_BASE, the innermost one's power being 0. So the
 * hash of outer frames is joined to inner ones by one multiplication, wherever one begins:
 *     hash(inner, outer) = hash(inner) + base^(inner frames) * hash(outer)
 * base - 1 and base + 1 are divisible by 2 and 4 only, so that frames that repeat or swap places
 * keep as many bits different as can be. */
#define MC_PATH_BASE 0x9e3779b97f4a7c1bull
extern uint64_t mc_path_powers[MC_TRAIL_DEPTH_MAX + 1] __attribute__((visibility("hidden")));

/* Before mc_path_powers are used: fills them. Any thread, any number of times. */
void mc_path_powers_make(void);

#endif
