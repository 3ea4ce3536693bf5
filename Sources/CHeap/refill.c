/* SPDX-License-Identifier: MIT */
/* See refill.h. */
#include "refill.h"

#include "arena.h"
#include "cache.h"
#include "check.h"
#include "class.h"
#include "large.h"
#include "os.h"
#include "root.h"
#include "serving.h"
#include "span.h"
#include "structs.h"
#include "thread.h"
#include "trim.h"
#include "waiting.h"

static struct mc_span *at(uint64_t address)
{
    return (struct mc_span *)address;
}

/* -- the list of a class ------------------------------------------------------------------- */

/* At the end, so that a span that was full and had a slot freed gathers more of them before it
 * serves again. The first one's `previous` is the last. */
static void push(struct mc_thread *thread, struct mc_span *span)
{
    uint64_t *head = &thread->spans[span->class_index];
    struct mc_span *first = at(*head);
    span->next = 0;
    if (!first) {
        span->previous = (uint64_t)span;
        mc_store(head, (uint64_t)span); /* adopt() looks at it first */
        return;
    }
    span->previous = first->previous;
    at(first->previous)->next = (uint64_t)span;
    first->previous = (uint64_t)span;
}

/* At the head: the next to serve. */
static void push_first(struct mc_thread *thread, struct mc_span *span)
{
    uint64_t *head = &thread->spans[span->class_index];
    struct mc_span *first = at(*head);
    span->next = (uint64_t)first;
    span->previous = first ? first->previous : (uint64_t)span;
    if (first) first->previous = (uint64_t)span;
    mc_store(head, (uint64_t)span);
}

static void remove_from_list(struct mc_thread *thread, struct mc_span *span)
{
    uint64_t *head = &thread->spans[span->class_index];
    struct mc_span *first = at(*head), *next = at(span->next);
    if (span == first)
        mc_store(head, span->next);
    else
        at(span->previous)->next = span->next;
    if (next)
        next->previous = span->previous;
    else if (span != first)
        first->previous = span->previous;
    span->next = span->previous = 0;
}

static void take_current(struct mc_thread *self, struct mc_span *span)
{
    mc_span_set_flag(span, MC_SPAN_CURRENT);
    span->counts++;
    self->current[span->class_index] = (uint64_t)span;
    mc_serving_follow(self, span->class_index, span);
}

/* Returns the span that was current, or NULL. A list of the cache is none, and stays where it is. */
static struct mc_span *drop_current(struct mc_thread *self, unsigned class_index)
{
    struct mc_span *span = at(self->current[class_index]);
    if (span == &mc_span_none) return 0;
    self->current[class_index] = (uint64_t)&mc_span_none;
    mc_serving_follow(self, class_index, 0);
    if (span->state == MC_SPAN_CACHE) return 0;
    mc_span_clear_flag(span, MC_SPAN_CURRENT);
    span->counts--;
    return span;
}

static int has_more(const struct mc_span *span)
{
    return span->free || span->purged || span->fresh < span->slot_count;
}

/* -- spans leave and come back ------------------------------------------------------------- */

static void set_full(struct mc_span *span)
{
    mc_span_set_flag(span, MC_SPAN_FULL);
    mc_span_set_limit(span);
}

/* The span has no slot in use and is on no list. */
static void put_empty(struct mc_thread *self, struct mc_span *span)
{
    uint64_t *kept = &self->kept[span->class_index];
    if (*kept) {
        mc_span_unmake(span, 0);
        return;
    }
    mc_span_set_flag(span, MC_SPAN_KEPT);
    *kept = (uint64_t)span;
}

static void flush_spans(struct mc_thread *thread, int purge)
{
    for (unsigned i = 0; i < MC_CLASS_COUNT; i++) {
        struct mc_span *kept = at(thread->kept[i]);
        if (kept) {
            thread->kept[i] = 0;
            mc_span_unmake(kept, purge);
        }
        if (mc_serving_leave_empty(thread, i)) mc_span_unmake(drop_current(thread, i), purge);
    }
}

/* The thread has no current spans then, all it has is on lists. */
static void leave_currents(struct mc_thread *thread)
{
    mc_serving_return_all(thread);
    for (unsigned i = 0; i < MC_CLASS_COUNT; i++) {
        struct mc_span *span = drop_current(thread, i);
        if (span && has_more(span))
            push(thread, span);
        else if (span)
            set_full(span);
    }
}

/* -- threads that become smaller ----------------------------------------------------------- */

/* What is populated of a span whose slots are all free. */
static uint64_t idle_bytes_of(const struct mc_span *span)
{
    return span->flags & MC_SPAN_ZERO ? span->fresh * span->slot_size : mc_class_span_size(span);
}

static uint64_t idle_bytes(const struct mc_thread *self)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < MC_CLASS_COUNT; i++) {
        if (self->kept[i]) bytes += idle_bytes_of(at(self->kept[i]));
        if (mc_serving_is_idle(self, i)) bytes += idle_bytes_of(at(self->current[i]));
    }
    return bytes;
}

/* Spans that serve but are in use are left as well, so that it shows when they become empty. */
static __attribute__((noinline)) void give_back_idle(struct mc_thread *self)
{
    uint64_t idle = idle_bytes(self);
    self->turned = 0;
    if (idle <= MC_IDLE_BYTES + (self->held - idle)) return;
    flush_spans(self, 0);
    leave_currents(self);
}

static inline void count_turned(struct mc_thread *self, uint64_t bytes)
{
    self->turned += bytes;
    if (unlikely(self->turned >= MC_IDLE_BYTES)) give_back_idle(self);
}

void mc_refill_reopen(struct mc_thread *self, struct mc_span *span)
{
    mc_span_clear_flag(span, MC_SPAN_FULL);
    mc_span_set_limit(span);
    push(self, span);
}

void mc_refill_span_freed(struct mc_thread *self, struct mc_span *span)
{
    if (span->flags & MC_SPAN_FULL) mc_refill_reopen(self, span);
    if (!span->used) {
        uint64_t size = mc_class_span_size(span);
        remove_from_list(self, span);
        put_empty(self, span);
        mc_refill_tick(self);
        count_turned(self, size);
    }
}

void mc_refill_free(struct mc_thread *self, struct mc_span *span, struct mc_slot *slot)
{
    slot->next = (struct mc_slot *)span->free;
    slot->mark = span->mark;
    mc_store(&span->free, (uint64_t)slot);
    mc_step(&span->counts, -1ull);
    if (span->flags & MC_SPAN_FULL || !span->used) mc_refill_span_freed(self, span);
}

void mc_span_emptied(struct mc_span *span)
{
    mc_refill_span_freed(mc_self, span);
}

void mc_refill_collect(struct mc_thread *thread)
{
    struct mc_span *span = at(mc_load(&thread->notified));
    if (likely(!span)) return;
    mc_store(&thread->looks, thread->looks + 1);
    span = at(mc_take(&thread->notified)); /* pairs with mc_span_notify */
    while (span) {
        uint64_t notice = mc_load(&span->notify_next);
        if (mc_load(&span->owner) != (uint64_t)thread) {
            mc_span_notify(span, notice >> 48); /* adopted by another since it was pushed */
        } else {
            if (likely(mc_span_collect(span, notice >> 48))) mc_refill_span_freed(thread, span);
        }
        span = at(notice & ((1ull << 48) - 1));
    }
}

void mc_refill_flush(struct mc_thread *thread, int purge)
{
    mc_large_flush(thread);
    flush_spans(thread, purge);
}

/* -- ended threads ------------------------------------------------------------------------- */

/* Leaves all that a seized thread has on lists for others. */
static void retire(struct mc_thread *thread)
{
    mc_serving_return_all(thread);
    mc_cache_flush(thread);
    mc_refill_collect(thread);
    mc_refill_flush(thread, 0);
    leave_currents(thread);
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

void mc_refill_grew(uint64_t bytes)
{
    uint64_t before = mc_add(&fresh_bytes, bytes);
    uint64_t threads = mc_load(&mc_root()->thread_count);
    uint64_t each = MC_REAP_FRESH + threads * MC_REAP_FRESH_THREAD;
    if (unlikely(before / each != (before + bytes) / each)) reap(1);
}

/* Takes a span of the class from a thread that ended. */
static struct mc_span *adopt(struct mc_thread *self, unsigned class_index)
{
    int tries = MC_ADOPT_TRIES;
    struct mc_thread *thread = mc_thread_first();
    for (; thread && tries; thread = mc_thread_next(thread)) {
        if (mc_load(&thread->state) != MC_THREAD_FREE || !mc_load(&thread->spans[class_index]))
            continue;
        tries--;
        if (!mc_thread_seize(thread)) continue;
        struct mc_span *span = at(thread->spans[class_index]);
        if (span) {
            remove_from_list(thread, span);
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

/* -- refill -------------------------------------------------------------------------------- */

static struct mc_span *next_span(struct mc_thread *self, unsigned class_index)
{
    struct mc_span *span = at(self->spans[class_index]);
    if (span) {
        remove_from_list(self, span);
        return span;
    }
    span = at(self->kept[class_index]);
    if (span) {
        self->kept[class_index] = 0;
        mc_span_clear_flag(span, MC_SPAN_KEPT);
        return span;
    }
    span = adopt(self, class_index);
    if (span) return span;
    count_turned(self, mc_class_span_slices(class_index) * (uint64_t)MC_SLICE);
    span = mc_span_make(class_index, self);
    if (span && span->flags & MC_SPAN_ZERO) mc_refill_grew(mc_class_span_size(span));
    return span;
}

/* What has_more() said of a span when it went on a list need not be so: a purged part may hold no
 * slot's start, and all slots around it be in use. */
static struct mc_span *next_with_slot(struct mc_thread *self, unsigned class_index, int *zero)
{
    for (;;) {
        struct mc_span *span = next_span(self, class_index);
        if (!span || span->free) return span;
        int carved = mc_span_carve(span);
        *zero = carved == MC_CARVED_ZERO;
        if (carved) return span;
        set_full(span);
    }
}

/* The thread's cache serves the class from now on; what did so waits at the head of the list. */
static struct mc_span *serve_cache(struct mc_thread *self, struct mc_span *cache)
{
    struct mc_span *span = drop_current(self, cache->class_index);
    if (span && !has_more(span))
        set_full(span);
    else if (span && !span->used)
        put_empty(self, span);
    else if (span)
        push_first(self, span);
    self->current[cache->class_index] = (uint64_t)cache;
    return cache;
}

/* The list's first span has slots whose pages are there already, as many as a page holds: they go before
 * fresh ones, or a class would come to touch all of every span it has. */
static int others_have_page(const struct mc_thread *self, unsigned class_index)
{
    const struct mc_span *first = at(self->spans[class_index]);
    if (!first || !first->free) return 0;
    return (uint64_t)(first->fresh - first->used) * first->slot_size >= MC_PAGE;
}

/* Where a heap is in steady use the current span has handed out all it has, and others that did so before
 * have had slots freed: the first of them takes its place. NULL, and nothing was done, where anything else
 * is to be asked first. */
static inline struct mc_span *turn(struct mc_thread *self, unsigned class_index)
{
    struct mc_span *span = at(self->current[class_index]), *first = at(self->spans[class_index]);
    if (!first || !first->free || mc_load(&self->notified) || span->state != MC_SPAN_CLASS ||
        span->free || span->purged || span->fresh < span->slot_count ||
        mc_cache_serves(self, class_index))
        return 0;
    uint64_t bytes = (uint64_t)(first->fresh - first->used) * first->slot_size;
    if (self->until_look <= bytes) return 0;
    self->until_look -= (uint32_t)bytes;
    set_full(span);
    mc_span_clear_flag(span, MC_SPAN_CURRENT);
    span->counts--;
    remove_from_list(self, first);
    take_current(self, first);
    return first;
}

/* A span with a free slot, current from now on; or a list of the cache. NULL when memory is short. */
static struct mc_span *find(struct mc_thread *self, unsigned class_index, int *zero)
{
    struct mc_span *span = at(self->current[class_index]);
    int carved = 0;
    *zero = 0;
    if (span->free) return span;
    struct mc_span *cache = mc_cache_ready(self, class_index);
    if (cache) return class_index < MC_DIRECT_CLASSES ? cache : serve_cache(self, cache);
    if (span->state == MC_SPAN_CACHE) {
        drop_current(self, class_index);
    } else if (span != &mc_span_none) {
        if (has_more(span) && others_have_page(self, class_index)) {
            push(self, drop_current(self, class_index));
        } else {
            carved = mc_span_carve(span);
            *zero = carved == MC_CARVED_ZERO;
            if (carved) return span;
            set_full(drop_current(self, class_index));
        }
    }
    span = next_with_slot(self, class_index, zero);
    if (span) take_current(self, span);
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

int mc_refill(struct mc_thread *self, unsigned class_index, int *zero)
{
    struct mc_span *span = turn(self, class_index);
    *zero = 0;
    if (unlikely(!span)) {
        mc_refill_look(self, MC_LOOK_REFILL);
        mc_refill_collect(self);
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
    mc_large_flush_all();
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

void mc_thread_check(const struct mc_thread *thread)
{
    for (unsigned i = 0; i < MC_CLASS_COUNT; i++) {
        const struct mc_span *current = at(thread->current[i]);
        mc_assert(current == &mc_span_none || current->state == MC_SPAN_CACHE ||
                  (current->owner == (uint64_t)thread && current->flags & MC_SPAN_CURRENT));
        uint64_t last = thread->spans[i] ? at(thread->spans[i])->previous : 0, previous = last;
        for (uint64_t list = thread->spans[i]; list; previous = list, list = at(list)->next) {
            mc_assert(at(list)->next || list == last);
            const struct mc_span *span = at(list);
            mc_assert(span->owner == (uint64_t)thread && span->class_index == i);
            mc_assert(span != current && span->previous == previous);
            mc_assert(!(span->flags & (MC_SPAN_FULL | MC_SPAN_KEPT)));
            mc_assert(has_more(span));
        }
        const struct mc_span *kept = at(thread->kept[i]);
        mc_assert(!kept || (kept->used == 0 && kept->flags & MC_SPAN_KEPT));
    }
    mc_cache_check(thread);
    mc_serving_check((struct mc_thread *)thread);
    mc_own_map_check((struct mc_thread *)thread);
    mc_large_check(thread);
}
