/* SPDX-License-Identifier: MIT */
/* On a libc without _dl_find_object there is no unwind information: frame pointers, plainly marked
 * as guesses, are what is left. Built with -fno-omit-frame-pointer and cfi.c made to ask for a
 * symbol that nobody has. */
#include "check.h"
#include "unwind.h"

enum { DEPTH = 64 };

static struct mc_frame_site frames[DEPTH];
static unsigned flags;
static size_t count;
static volatile unsigned sink;

static __attribute__((noinline)) void deep(unsigned depth)
{
    if (depth) {
        deep(depth - 1);
    } else {
        struct mc_unwind_start start;
        MC_UNWIND_CAPTURE(&start);
        count = mc_unwind(&start, frames, DEPTH, &flags);
    }
    sink++;
}

static void follows_frame_pointers(void)
{
    deep(10);
    CHECK(count >= 11 && (flags & MC_UNWIND_GUESSED));
    for (size_t i = 1; i < 10; i++)
        CHECK(frames[i].pc == frames[0].pc && frames[i].slot > frames[i - 1].slot);
    CHECK(frames[10].pc != frames[0].pc);
    CHECK(!(flags & MC_UNWIND_CUT));
}

int main(void)
{
    TEST(follows_frame_pointers);
    return check_failed_tests != 0;
}
