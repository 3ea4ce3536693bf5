/* SPDX-License-Identifier: MIT */
/* See instrument.h. */
#include "instrument.h"

#include <errno.h>
#include <string.h>

#include "start.h"

int mc_has_tag(const void *object)
{
    const struct mc_span *span = mc_span_of(object);
    return span && mc_load(&span->flags) & MC_SPAN_TAGGED;
}

__thread int mc_accounting;

void mc_take_shard(void)
{
    if (unlikely(mc_accounting)) return;
    mc_accounting = 1;
    mc_trace_thread(mc_thread_number());
    mc_accounting = 0;
}

unsigned mc_armed_here_slow(void)
{
    if (unlikely(mc_load(&mc_own_region.armed) & MC_ARMED_START)) mc_start();
    if (unlikely(mc_os_forked())) mc_heap_notice_fork();
    if (unlikely(mc_os_forked())) return 0;
    uint32_t only = mc_load(&mc_own_region.only_pid);
    if (unlikely(only) && only != mc_own_region.pid)
        return 0; /* a forked child that shares this region is meant */
    return mc_load(&mc_own_region.armed);
}

/* 1 if an object of that size is to be accounted. */
static inline int tracing(size_t size)
{
    if (!(mc_armed_here() & MC_ARMED_TRACE)) {
        mc_sampling_untraced();
        return 0;
    }
    if (unlikely(mc_accounting)) {
        mc_trace_untraced();
        return 0;
    }
    return (likely(mc_sampling_takes_all()) || mc_sampling_takes(size)) && mc_trace_ready();
}

/* Accounts an object to the stack that asked for it. */
static void trace_tagged(const struct mc_tagged *tagged, size_t requested,
                         const struct mc_caller *caller)
{
    unsigned thread = mc_thread_number();
    mc_accounting = 1;
    mc_trace_thread(thread);
    uint64_t tag = mc_trace_count_in(thread, caller, tagged->usable, requested, tagged->large);
    mc_tag_finish(tagged, requested, tag);
    mc_accounting = 0;
}

static void trace(void *object, size_t requested, const struct mc_caller *caller)
{
    struct mc_tagged tagged;
    if (unlikely(!mc_tag_prepare(object, &tagged))) return mc_trace_untraced();
    trace_tagged(&tagged, requested, caller);
}

static void *out_of_memory(void)
{
    errno = ENOMEM;
    return 0;
}

/* What malloc.c does when nothing is armed. */
static inline void *plain_alloc(size_t size, size_t align, int zero)
{
    if (unlikely(align > MC_QUANTUM)) return mc_alloc_aligned(size, align);
    if (unlikely(zero && size > MC_DIRECT_MAX)) return mc_alloc_slow(size, 1);
    void *object = mc_alloc(size);
    return object && zero ? memset(object, 0, size) : object;
}

MC_CALLER_ENTRY_3(mc_instrumented_alloc, mc_instrumented_alloc_for);
MC_CALLER_ENTRY_2(mc_instrumented_realloc, mc_instrumented_realloc_for);

/* Where there is no slot at hand, or all is not plain: nobody has asked for this object's sample yet. */
static __attribute__((noinline)) void *alloc_otherwise(size_t size, size_t align, int zero,
                                                       struct mc_caller caller)
{
    struct mc_tagged tagged;
    int traced = tracing(size);
    void *object = traced && align <= MC_QUANTUM ? mc_alloc_tagged(size, &tagged) : 0;
    if (object) {
        if (zero) memset(object, 0, size);
        trace_tagged(&tagged, size, &caller);
        return object;
    }
    object = traced ? mc_alloc_owned(size, align, zero) : plain_alloc(size, align, zero);
    if (unlikely(!object)) return out_of_memory();
    if (traced) trace(object, size, &caller);
    return object;
}

/* 1 if everything is accounted and nothing else is asked for, unless of some process alone: as tracing(), for
 * the usual case. */
static inline int is_plain(void)
{
    enum { EITHER = MC_ARMED_START | MC_ARMED_TRACE };
    return likely((mc_load(&mc_own_region.armed) & EITHER) == MC_ARMED_TRACE) &&
           likely(!mc_os_forked()) && likely(!mc_peek(&mc_accounting)) && mc_trace_is_plain();
}

static inline void *zeroed(void *object, size_t size, int zero)
{
    return zero ? memset(object, 0, size) : object;
}

/* The same as below, where the stack is not recalled. Requires that all is plain. */
static __attribute__((noinline)) void *alloc_by_walk(size_t size, int zero, struct mc_caller caller)
{
    struct mc_tagged tagged;
    int for_all = likely(!mc_load(&mc_own_region.only_pid));
    void *object = for_all ? mc_alloc_tagged(size, &tagged) : 0;
    if (unlikely(!object)) return alloc_otherwise(size, MC_QUANTUM, zero, caller);
    mc_accounting = 1;
    mc_tag_finish(&tagged, size,
                  mc_trace_count_walked_in(mc_thread_number(), &caller, tagged.usable, size));
    mc_accounting = 0;
    return zeroed(object, size, zero);
}

/* The stack comes first: while the words are read there is nothing else to keep at hand. What a signal
 * handler takes away meanwhile is not there when it is asked for. Aligned, as free_tagged() is: where in
 * its line a function begins is worth 2 ns a pair, and is chance otherwise. */
__attribute__((used, aligned(64))) void *
mc_instrumented_alloc_for(size_t size, size_t align, int zero, struct mc_caller caller)
{
    struct mc_tagged tagged;
    if (unlikely(align > MC_QUANTUM) || unlikely(!is_plain()))
        return alloc_otherwise(size, align, zero, caller);
    mc_accounting = 1;
    uint32_t stack = mc_trace_recall(&caller);
    if (unlikely(!stack)) {
        mc_accounting = 0;
        return alloc_by_walk(size, zero, caller);
    }
    void *object = mc_alloc_tagged(size, &tagged);
    if (unlikely(!object)) {
        mc_accounting = 0;
        return alloc_otherwise(size, MC_QUANTUM, zero, caller);
    }
    mc_tag_finish(&tagged, size, mc_trace_count_recalled_in(stack, tagged.usable, size));
    mc_accounting = 0;
    return zeroed(object, size, zero);
}

/* The object, if it can stay where it is with the new size; its old tag is gone then. */
static void *resize(void *object, size_t size, int traced)
{
    if (!traced && !mc_has_tag(object)) return mc_realloc_in_place(object, size);
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
    if (tag) mc_trace_count_out(tag, usable, requested);
    return same;
}

__attribute__((used)) void *mc_instrumented_realloc_for(void *object, size_t size,
                                                        struct mc_caller caller)
{
    /* For what has no tag, realloc has asked, and was told no. */
    int traced = (!mc_has_tag(object) || !mc_sampling_passes(size)) && tracing(size);
    if (object && !size) {
        mc_free(object);
        return 0;
    }
    void *fresh = object ? resize(object, size, traced) : 0;
    if (!fresh) {
        size_t had = object ? mc_usable_size(object, "realloc()") : 0;
        int grows = had && size > had && size >= MC_GROW_MIN;
        fresh = grows ? mc_alloc_growing(size) : mc_alloc_owned(size, MC_QUANTUM, 0);
        if (unlikely(!fresh)) return out_of_memory();
        if (object) {
            memcpy(fresh, object, had < size ? had : size);
            mc_free(object);
        }
    }
    if (traced) trace(fresh, size, &caller);
    return fresh;
}

void mc_heap_on_tagged_free(void *object, size_t usable, size_t requested, uint64_t tag)
{
    (void)object;
    mc_trace_count_out(tag, usable, requested);
}

void mc_heap_on_tagged_slot_free(const struct mc_span *span, uint64_t tag)
{
    size_t usable = mc_class_slot_size(span->class_index);
    if (likely(mc_trace_count_slot_out(tag, usable))) return;
    mc_take_shard();
    mc_trace_count_out(tag, usable, MC_REQUESTED_IN_TAG);
}
