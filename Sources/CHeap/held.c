/* SPDX-License-Identifier: MIT */
/* See held.h. */
#include "held.h"

#include "cache.h"
#include "check.h"
#include "large_kept.h"

void mc_held_put_empty(struct mc_thread *self, struct mc_span *span)
{
    uint64_t *kept = &self->kept[span->class_index];
    if (*kept) {
        mc_span_unmake(span, 0);
        return;
    }
    mc_span_set_flag(span, MC_SPAN_KEPT);
    *kept = (uint64_t)span;
}

void mc_held_reopen(struct mc_thread *thread, struct mc_span *span)
{
    mc_span_clear_flag(span, MC_SPAN_FULL);
    mc_store(&span->list, mc_span_own_list(span));
    mc_span_set_limit(span);
    mc_held_push(thread, span);
}

uint64_t mc_held_slot_freed(struct mc_thread *thread, struct mc_span *span)
{
    if (span->flags & MC_SPAN_FULL) mc_held_reopen(thread, span);
    if (likely(span->used)) return 0;
    uint64_t size = mc_class_span_size(span);
    mc_held_remove(thread, span);
    mc_held_put_empty(thread, span);
    return size;
}

void mc_held_flush(struct mc_thread *thread, int purge)
{
    for (unsigned i = 0; i < MC_CLASS_COUNT; i++) {
        if (mc_serving_leave_empty(thread, i))
            mc_span_unmake(mc_held_drop_current(thread, i), purge);
        /* After what was to be served went back, which may have emptied it. */
        struct mc_span *kept = mc_held_at(thread->kept[i]);
        if (!kept) continue;
        thread->kept[i] = 0;
        mc_span_unmake(kept, purge);
    }
}

void mc_held_leave_currents(struct mc_thread *thread)
{
    mc_serving_return_all(thread);
    for (unsigned i = 0; i < MC_CLASS_COUNT; i++) {
        struct mc_span *span = mc_held_drop_current(thread, i);
        if (span && mc_held_has_more(span))
            mc_held_push(thread, span);
        else if (span)
            mc_held_set_full(span);
    }
}

/* -- threads that become smaller ----------------------------------------------------------- */

/* What is populated of a span whose slots are all free. */
static uint64_t idle_bytes_of(const struct mc_span *span)
{
    return span->flags & MC_SPAN_ZERO ? span->fresh * mc_class_slot_size(span->class_index)
                                      : mc_class_span_size(span);
}

static uint64_t idle_bytes(const struct mc_thread *self)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < MC_CLASS_COUNT; i++) {
        if (self->kept[i]) bytes += idle_bytes_of(mc_held_at(self->kept[i]));
        if (mc_serving_is_idle(self, i)) bytes += idle_bytes_of(mc_held_at(self->current[i]));
    }
    return bytes;
}

/* Spans that serve but are in use are left as well, so that it shows when they become empty. */
void mc_held_give_back_idle(struct mc_thread *self)
{
    uint64_t idle = idle_bytes(self);
    self->turned = 0;
    if (idle <= MC_IDLE_BYTES + (self->held - idle)) return;
    mc_held_flush(self, 0);
    mc_held_leave_currents(self);
}

void mc_thread_check(const struct mc_thread *thread)
{
    for (unsigned i = 0; i < MC_CLASS_COUNT; i++) {
        const struct mc_span *current = mc_held_at(thread->current[i]);
        mc_assert(current == &mc_span_none || current->state == MC_SPAN_CACHE ||
                  (current->owner == (uint64_t)thread && current->flags & MC_SPAN_CURRENT));
        uint64_t last = thread->spans[i] ? mc_held_at(thread->spans[i])->previous : 0,
                 previous = last;
        for (uint64_t list = thread->spans[i]; list;
             previous = list, list = mc_held_at(list)->next) {
            mc_assert(mc_held_at(list)->next || list == last);
            const struct mc_span *span = mc_held_at(list);
            mc_assert(span->owner == (uint64_t)thread && span->class_index == i);
            mc_assert(span != current && span->previous == previous);
            mc_assert(!(span->flags & (MC_SPAN_FULL | MC_SPAN_KEPT)));
            mc_assert(mc_held_has_more(span));
        }
        const struct mc_span *kept = mc_held_at(thread->kept[i]);
        mc_assert(!kept || (kept->used == 0 && kept->flags & MC_SPAN_KEPT));
    }
    mc_cache_check(thread);
    mc_serving_check((struct mc_thread *)thread);
    mc_own_map_check((struct mc_thread *)thread);
    mc_kept_check(thread);
}
