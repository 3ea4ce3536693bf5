/* SPDX-License-Identifier: MIT */
/* See instrument.h. */
#include "instrument.h"

#include <errno.h>
#include <string.h>

#include "os.h"
#include "start.h"

int mc_has_tag(const void *object)
{
    const struct mc_span *span = mc_span_of(object);
    return span && mc_load(&span->flags) & MC_SPAN_TAGGED;
}

/* A signal handler that allocates while its thread is in the middle of accounting goes untraced:
 * what it interrupted is not finished. Also keeps the first call's start-up from tracing itself. */
static __thread int busy;

static int tracing(void)
{
    uint8_t armed = mc_load(&mc_own_region.armed);
    if (unlikely(armed & MC_ARMED_START)) {
        mc_start();
        armed = mc_load(&mc_own_region.armed);
    }
    if (unlikely(mc_os_forked())) mc_heap_notice_fork();
    if (unlikely(mc_os_forked())) return 0;
    armed = mc_load(&mc_own_region.armed);
    uint32_t only = mc_load(&mc_own_region.only_pid);
    if (unlikely(only) && only != mc_own_region.pid)
        return 0; /* a forked child that shares this region is meant */
    if (!(armed & MC_ARMED_TRACE)) return 0;
    if (unlikely(busy)) {
        mc_trace_untraced();
        return 0;
    }
    return mc_trace_ready();
}

/* Accounts the object to the stack that asked for it. */
static void trace(void *object, size_t requested)
{
    if (!mc_tag_settable(object)) {
        mc_trace_untraced();
        return;
    }
    busy = 1;
    unsigned thread = mc_thread_number();
    size_t usable = mc_usable_size(object, "malloc()");
    int large = mc_span_of(object)->state != MC_SPAN_CLASS;
    uint64_t tag = mc_trace_count_in(thread, usable, requested, large);
    if (!mc_tag_set(object, requested, tag)) mc_trace_count_undo(thread, tag, usable, requested);
    busy = 0;
}

static void *out_of_memory(void)
{
    errno = ENOMEM;
    return 0;
}

void *mc_instrumented_alloc(size_t size, size_t align, int zero)
{
    int traced = tracing();
    void *object = traced ? mc_alloc_owned(size, align, zero)
                   : zero ? mc_alloc_slow(size, 1)
                          : mc_alloc_aligned(size, align);
    if (unlikely(!object)) return out_of_memory();
    if (traced) trace(object, size);
    return object;
}

/* The object, if it can stay where it is with the new size; its old tag is gone then. */
static void *resize(void *object, size_t size, int traced)
{
    /* Only the thread whose span it is can give it a new tag; for others it moves. */
    size_t usable = mc_usable_size(object, "realloc()"), requested;
    if (traced && !mc_tag_settable(object)) return 0;
    uint64_t tag = mc_tag_take(object, &usable, &requested);
    void *same = mc_realloc_in_place(object, size);
    if (!same && tag) {
        /* Put back: the copy that follows may fail, or free it in the ordinary way. */
        mc_tag_put_back(object, tag);
        return 0;
    }
    if (tag) mc_trace_count_out(mc_thread_number(), tag, usable, requested);
    return same;
}

void *mc_instrumented_realloc(void *object, size_t size)
{
    int traced = tracing();
    if (object && !size) {
        mc_free(object);
        return 0;
    }
    void *fresh = object ? resize(object, size, traced) : 0;
    if (!fresh) {
        size_t had = object ? mc_usable_size(object, "realloc()") : 0;
        fresh = had && size > had ? mc_alloc_growing(size) : mc_alloc_owned(size, MC_QUANTUM, 0);
        if (unlikely(!fresh)) return out_of_memory();
        if (object) {
            memcpy(fresh, object, had < size ? had : size);
            mc_free(object);
        }
    }
    if (traced) trace(fresh, size);
    return fresh;
}

void mc_heap_on_tagged_free(void *object, size_t usable, size_t requested, uint64_t tag)
{
    (void)object;
    mc_trace_count_out(mc_thread_number(), tag, usable, requested);
}
