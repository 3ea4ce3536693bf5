/* SPDX-License-Identifier: MIT */
/* See handler_fork.h. */
#include "handler_fork.h"

#include <stddef.h>
#include <stdint.h>

#include "bits.h"
#include "heap.h"
#include "saved_context.h"
#include "trace.h"

enum { LOOK_BYTES = 32 << 10 };

/* By the linker: the file's first byte, and the end of its code. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));

/* glibc's pthread_atfork(3), but for code that is never unloaded, and so has no __dso_handle. */
extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                             void *dso_handle);

enum interrupted { NOTHING, SOMETHING, HEAP };

/* By the saved context that this word belongs to. */
static enum interrupted interrupted_at(const uint64_t *word)
{
    uint64_t pc = mc_saved_pc(word);
    if (likely(!pc)) return NOTHING;
    return pc - (uint64_t)__ehdr_start < (uint64_t)(etext - __ehdr_start) ? HEAP : SOMETHING;
}

/* What a handler interrupted whose frame lies on the stack from here upwards. */
static enum interrupted look(const uint64_t *sp)
{
    const uint64_t *end = sp + mc_trace_stack_above(sp, LOOK_BYTES) / sizeof *sp;
    enum interrupted found = NOTHING;
    for (const uint64_t *at = sp + MC_SAVED_PC_BELOW; at < end && found < HEAP; at++) {
        enum interrupted here = interrupted_at(at);
        if (here > found) found = here;
    }
    return found;
}

static void look_in_child(void)
{
    enum interrupted found = look(__builtin_frame_address(0));
    mc_region_forked(found != NOTHING);
    if (unlikely(found == HEAP)) mc_thread_leave();
}

void mc_handler_fork_watch(void)
{
    __register_atfork(NULL, NULL, look_in_child, NULL);
}
