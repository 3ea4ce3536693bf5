/* SPDX-License-Identifier: MIT */
/* See refill.h. */
#include "refill.h"

#include "arena.h"
#include "cache.h"
#include "class.h"
#include "ended.h"
#include "held.h"
#include "large_kept.h"
#include "os.h"
#include "proxy.h"
#include "reuse.h"
#include "root.h"
#include "serving.h"
#include "span.h"
#include "structs.h"
#include "thread.h"
#include "trim.h"
#include "waiting.h"

/* -- spans come back ----------------------------------------------------------------------- */

/* The thread has become smaller by so many bytes. */
static void emptied(struct mc_thread *self, uint64_t bytes)
{
    mc_refill_tick(self);
    mc_held_count_turned(self, bytes);
}

void mc_refill_span_freed(struct mc_thread *self, struct mc_span *span)
{
    if (unlikely(span->state == MC_SPAN_PROXY)) {
        mc_proxy_full(self, span);
        return mc_refill_look(self, MC_LOOK_REFILL);
    }
    uint64_t bytes = mc_held_slot_freed(self, span);
    if (bytes) emptied(self, bytes);
}

void mc_refill_free(struct mc_thread *self, struct mc_span *span, struct mc_slot *slot)
{
    slot->next = (struct mc_slot *)span->free;
    slot->mark = span->mark;
    mc_store(&span->free, (uint64_t)slot);
    mc_step(&span->used, -1);
    if (span->flags & MC_SPAN_FULL || !span->used) mc_refill_span_freed(self, span);
}

void mc_list_at_zero(struct mc_span *span)
{
    struct mc_thread *self = mc_self;
    if (likely(span->list == mc_span_own_list(span))) return mc_refill_span_freed(self, span);
    uint64_t bytes = mc_reuse_overflow(self, mc_serving_of(self, span->class_index));
    if (bytes) emptied(self, bytes);
}

void mc_refill_collect(struct mc_thread *thread)
{
    struct mc_span *span = mc_held_at(mc_load(&thread->notified));
    if (likely(!span)) return;
    mc_store(&thread->looks, thread->looks + 1);
    span = mc_held_at(mc_take(&thread->notified)); /* pairs with mc_span_notify */
    while (span) {
        uint64_t notice = mc_load(&span->notify_next);
        if (mc_load(&span->owner) != (uint64_t)thread) {
            mc_span_notify(span, notice >> 48); /* adopted by another since it was pushed */
        } else {
            if (likely(mc_span_collect(span, notice >> 48))) mc_refill_span_freed(thread, span);
        }
        span = mc_held_at(notice & ((1ull << 48) - 1));
    }
}

void mc_refill_flush(struct mc_thread *thread, int purge)
{
    mc_kept_flush(thread);
    mc_held_flush(thread, purge);
}

/* -- refill -------------------------------------------------------------------------------- */

static struct mc_span *next_span(struct mc_thread *self, unsigned class_index)
{
    struct mc_span *span = mc_held_at(self->spans[class_index]);
    if (span) {
        mc_held_remove(self, span);
        return span;
    }
    span = mc_held_at(self->kept[class_index]);
    if (span) {
        self->kept[class_index] = 0;
        mc_span_clear_flag(span, MC_SPAN_KEPT);
        return span;
    }
    span = mc_ended_adopt(self, class_index);
    if (span) return span;
    mc_held_count_turned(self, mc_class_span_slices(class_index) * (uint64_t)MC_SLICE);
    span = mc_span_make(class_index, self);
    if (span && span->flags & MC_SPAN_ZERO) mc_heap_grew(mc_class_span_size(span));
    return span;
}

/* What mc_held_has_more() said of a span when it went on a list need not be so: a purged part may hold no
 * slot's start, and all slots around it be in use. */
static struct mc_span *next_with_slot(struct mc_thread *self, unsigned class_index, int *zero)
{
    for (;;) {
        struct mc_span *span = next_span(self, class_index);
        if (!span || span->free) return span;
        int carved = mc_span_carve(span);
        *zero = carved == MC_CARVED_ZERO;
        if (carved) return span;
        mc_held_set_full(span);
    }
}

/* The thread's cache serves the class from now on; what did so waits at the head of the list. */
static struct mc_span *serve_cache(struct mc_thread *self, struct mc_span *cache)
{
    struct mc_span *span = mc_held_drop_current(self, cache->class_index);
    if (span && !mc_held_has_more(span))
        mc_held_set_full(span);
    else if (span && !span->used)
        mc_held_put_empty(self, span);
    else if (span)
        mc_held_push_first(self, span);
    self->current[cache->class_index] = (uint64_t)cache;
    return cache;
}

/* The list's first span has slots whose pages are there already, as many as a page holds: they go before
 * fresh ones, or a class would come to touch all of every span it has. */
static int others_have_page(const struct mc_thread *self, unsigned class_index)
{
    const struct mc_span *first = mc_held_at(self->spans[class_index]);
    if (!first || !first->free) return 0;
    return (uint64_t)(first->fresh - first->used) * mc_class_slot_size(first->class_index) >=
           MC_PAGE;
}

/* Where a heap is in steady use the current span has handed out all it has, and others that did so before
 * have had slots freed: the first of them takes its place. NULL, and nothing was done, where anything else
 * is to be asked first. */
static inline struct mc_span *turn(struct mc_thread *self, unsigned class_index)
{
    struct mc_span *span = mc_held_at(self->current[class_index]),
                   *first = mc_held_at(self->spans[class_index]);
    if (!first || !first->free || mc_load(&self->notified) || span->state != MC_SPAN_CLASS ||
        span->free || span->purged || span->fresh < span->slot_count ||
        mc_cache_serves(self, class_index))
        return 0;
    uint64_t bytes =
        (uint64_t)(first->fresh - first->used) * mc_class_slot_size(first->class_index);
    if (self->until_look <= bytes) return 0;
    self->until_look -= (uint32_t)bytes;
    mc_span_clear_flag(span, MC_SPAN_CURRENT);
    mc_step(&span->used, -1);
    mc_held_set_full(span);
    mc_held_remove(self, first);
    mc_held_take_current(self, first);
    return first;
}

/* A span with a free slot, current from now on; or a list of the cache. NULL when memory is short. */
static struct mc_span *find(struct mc_thread *self, unsigned class_index, int *zero)
{
    struct mc_span *span = mc_held_at(self->current[class_index]);
    int carved = 0;
    *zero = 0;
    if (span->free) return span;
    struct mc_span *cache = mc_cache_ready(self, class_index, others_have_page(self, class_index));
    if (cache) return class_index < MC_DIRECT_CLASSES ? cache : serve_cache(self, cache);
    if (span->state == MC_SPAN_CACHE) {
        mc_held_drop_current(self, class_index);
    } else if (span != &mc_span_none) {
        if (mc_held_has_more(span) && others_have_page(self, class_index)) {
            mc_held_push(self, mc_held_drop_current(self, class_index));
        } else {
            carved = mc_span_carve(span);
            *zero = carved == MC_CARVED_ZERO;
            if (carved) return span;
            mc_held_set_full(mc_held_drop_current(self, class_index));
        }
    }
    span = next_with_slot(self, class_index, zero);
    if (span) mc_held_take_current(self, span);
    return span;
}

void *mc_refill_turn(struct mc_thread *self, unsigned class_index)
{
    int direct = class_index < MC_DIRECT_CLASSES;
    if (direct && unlikely(mc_serving_of(self, class_index)->free)) return 0;
    struct mc_span *span = turn(self, class_index);
    if (!span) return 0;
    if (!direct) return mc_span_pop(span);
    struct mc_serving *serving = mc_serving_of(self, class_index);
    mc_serving_fill(serving, span);
    return mc_serving_pop(serving);
}

/* What was freed in full spans goes before fresh slots. */
static int refill_reused(struct mc_thread *self, unsigned class_index)
{
    if (class_index >= MC_DIRECT_CLASSES) return 0;
    struct mc_serving *serving = mc_serving_of(self, class_index);
    if (mc_held_at(self->current[class_index])->free || !mc_reuse_is_ready(serving)) return 0;
    mc_reuse_serve(serving);
    return 1;
}

int mc_refill(struct mc_thread *self, unsigned class_index, int *zero)
{
    struct mc_span *span = turn(self, class_index);
    *zero = 0;
    if (unlikely(!span)) {
        mc_refill_look(self, MC_LOOK_REFILL);
        mc_refill_collect(self);
        if (refill_reused(self, class_index)) return 1;
        span = find(self, class_index, zero);
    }
    if (!span || class_index >= MC_DIRECT_CLASSES) return span != 0;
    struct mc_serving *serving = mc_serving_of(self, class_index);
    if (span->state == MC_SPAN_CACHE)
        mc_serving_fill_cached(serving, span);
    else
        mc_serving_fill(serving, span);
    return 1;
}

static uint64_t next_tick_ms;     /* [shared] */
static uint64_t purged_last_look; /* [shared] bytes, when structs and page map were last trimmed */

static void trim_metadata(void)
{
    uint64_t purged = mc_load(&mc_root()->purged_bytes);
    if (likely(purged - mc_load(&purged_last_look) < MC_TRIM_PURGED)) return;
    mc_store(&purged_last_look, purged);
    mc_structs_trim();
    mc_arena_trim_map();
}

/* What the thread keeps for later. */
static void give_back(struct mc_thread *self)
{
    mc_serving_return_cached(self);
    mc_cache_flush(self);
    mc_refill_collect(self);
    mc_refill_flush(self, 1);
    mc_trim_idle(self);
}

void mc_refill_tick(struct mc_thread *self)
{
    uint64_t now = mc_os_clock_ms();
    uint64_t due = mc_load(&next_tick_ms);
    if (likely(now < due) || !mc_swap_if(&next_tick_ms, &due, now + MC_TICK_MS) || !due) return;
    if (likely(self != &mc_thread_none)) give_back(self);
    mc_threads_reap();
    mc_kept_flush_all();
    mc_waiting_give_back(0);
    if (mc_arena_purgeable()) mc_arena_purge(0);
    trim_metadata();
}

void mc_refill_look(struct mc_thread *self, uint64_t bytes)
{
    if (likely(self->until_look > bytes)) {
        self->until_look -= (uint32_t)bytes;
        return;
    }
    self->until_look = MC_LOOK_BYTES;
    mc_refill_tick(self);
}
