/* SPDX-License-Identifier: MIT */
/* See ended.h. */
#include "ended.h"

#include "cache.h"
#include "held.h"
#include "limits.h"
#include "refill.h"
#include "root.h"

/* Leaves all that a seized thread has on lists for others. */
static void retire(struct mc_thread *thread)
{
    mc_serving_return_all(thread);
    mc_cache_flush(thread);
    mc_refill_collect(thread);
    mc_refill_flush(thread, 0);
    mc_held_leave_currents(thread);
}

/* Returns 1 if there was one. The first `spared` that nobody has noticed yet stay as they are. */
static int reap(int spared)
{
    int found = 0;
    struct mc_thread *thread = mc_thread_first();
    for (; thread; thread = mc_thread_next(thread)) {
        int idle = mc_load(&thread->state) == MC_THREAD_FREE && !mc_load(&thread->notified);
        if (idle || (spared && mc_thread_has_ended(thread) && spared--)) continue;
        if (!mc_thread_seize(thread)) continue;
        retire(thread);
        mc_thread_let_go(thread);
        found = 1;
    }
    return found;
}

void mc_threads_reap(void)
{
    /* What one had cached may belong to another that was looked after just before. */
    if (reap(0)) reap(0);
}

static uint64_t fresh_bytes; /* [shared] that the heap grew by so far */

void mc_heap_grew(uint64_t bytes)
{
    uint64_t before = mc_add(&fresh_bytes, bytes);
    uint64_t threads = mc_load(&mc_root()->thread_count);
    uint64_t each = MC_REAP_FRESH + threads * MC_REAP_FRESH_THREAD;
    if (unlikely(before / each != (before + bytes) / each)) reap(1);
}

struct mc_span *mc_ended_adopt(struct mc_thread *self, unsigned class_index)
{
    int tries = MC_ADOPT_TRIES;
    struct mc_thread *thread = mc_thread_first();
    for (; thread && tries; thread = mc_thread_next(thread)) {
        if (mc_load(&thread->state) != MC_THREAD_FREE || !mc_load(&thread->spans[class_index]))
            continue;
        tries--;
        if (!mc_thread_seize(thread)) continue;
        struct mc_span *span = mc_held_at(thread->spans[class_index]);
        if (span) {
            mc_held_remove(thread, span);
            mc_own_map_forget(thread, span);
            thread->held -= mc_class_span_size(span);
            self->held += mc_class_span_size(span);
            /* Release pairs with mc_span_notify: whoever sees the new owner may use its list. */
            mc_store_release(&span->owner, (uint64_t)self);
        }
        mc_thread_let_go(thread);
        if (span) return span;
    }
    return 0;
}
