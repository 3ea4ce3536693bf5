/* SPDX-License-Identifier: MIT */
/* Instrumented allocation: what the entry points do when the armed word is not 0. Here heap and
 * trace meet: the backtrace becomes a tag, the tag goes to the heap, and comes back when the
 * object is freed. */
#ifndef MC_INSTRUMENT_H
#define MC_INSTRUMENT_H

#include "heap.h"
#include "os.h"
#include "trace.h"

_Static_assert(MC_REQUESTED_UNKNOWN == MC_REQUESTED_IN_TAG,
               "what the heap does not keep, the tag has");

#define EXPORT __attribute__((visibility("default")))

static inline int mc_armed(void)
{
    return mc_peek(&mc_own_region.armed) != 0;
}

/* Requests below that are for the short path, and nothing accounts them. */
static inline uint64_t mc_direct_below(void)
{
    return mc_peek(&mc_own_region.direct);
}
_Static_assert(MC_REGION_DIRECT == MC_DIRECT_MAX + 1, "what the region says is what the heap does");

/* The armed word, if it is meant for this process; makes the region of a new process first. */
static inline unsigned mc_armed_here(void);

/* Its long way. */
unsigned mc_armed_here_slow(void);

static inline unsigned mc_armed_here(void)
{
    unsigned armed = mc_load(&mc_own_region.armed);
    if (unlikely(armed & MC_ARMED_START) || unlikely(mc_os_forked()) ||
        unlikely(mc_load(&mc_own_region.only_pid)))
        return mc_armed_here_slow();
    return armed;
}

/* A signal handler that allocates while its thread is in the middle of accounting goes untraced:
 * what it interrupted is not finished. */
extern __thread int mc_accounting;

/* Gives the calling thread a shard of its own if it is time: see mc_trace_thread(). Not in such a handler. */
void mc_take_shard(void);

/* Traced for whoever calls the function that calls them; best by a tail call: see caller.h. errno is
 * ENOMEM when they return NULL. */
void *mc_instrumented_alloc(size_t size, size_t align, int zero);
void *mc_instrumented_realloc(void *object, size_t size);

/* Where they go on. */
void *mc_instrumented_alloc_for(size_t size, size_t align, int zero, struct mc_caller caller);
void *mc_instrumented_realloc_for(void *object, size_t size, struct mc_caller caller);

/* 1 if the object may have a tag. Any pointer; a bad one is for the heap to complain of. */
int mc_has_tag(const void *object);

#endif
