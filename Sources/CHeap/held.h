/* SPDX-License-Identifier: MIT */
/* Held: the spans of a thread, each in one of four places.
 *
 *     current[class]  serves the class' requests
 *     spans[class]    others with free slots, a list: the first serves next
 *     kept[class]     one empty span, so that a program on the edge does not make and unmake it
 *     (full)          on no list; the first slot on their own one puts them back. Frees of small classes' slots go
 *                     to one list for all of them, see reuse.h
 *
 * What a thread keeps empty nobody else can have, and a thread that waits for work gives nothing back: so
 * it does when it becomes smaller, see mc_held_count_turned().
 *
 * Nothing here is called by two threads for one struct at a time: the owner calls it, or whoever seized
 * the struct of a thread that ended.
 *
 * Invariants, asserted by mc_thread_check():
 *   1. a span on a list is the thread's, of the class, neither current, kept nor full, and has a slot to give
 *   2. the first one's `previous` is the last
 *   3. a kept one has no slot in use */
#ifndef MC_HELD_H
#define MC_HELD_H

#include "limits.h"
#include "serving.h"
#include "span.h"
#include "thread.h"

/* On the list of its class, at the end, so that a span that was full and had a slot freed gathers more of
 * them before it serves again; or at the head, to serve next. */
static inline void mc_held_push(struct mc_thread *thread, struct mc_span *span);
static inline void mc_held_push_first(struct mc_thread *thread, struct mc_span *span);
static inline void mc_held_remove(struct mc_thread *thread, struct mc_span *span);

/* The span, which is on no list, serves its class. */
static inline void mc_held_take_current(struct mc_thread *self, struct mc_span *span);

/* None does. Returns the span that did, or NULL. A list of the cache is none, and stays where it is. */
static inline struct mc_span *mc_held_drop_current(struct mc_thread *self, unsigned class_index);

/* A full span is to have a slot on its own list. */
void mc_held_reopen(struct mc_thread *thread, struct mc_span *span);

/* The thread's span has one more on that list, or less in `used`: a full one goes back on the thread's list, an
 * empty one is kept or unmade. Returns how many bytes an empty one has, else 0. */
uint64_t mc_held_slot_freed(struct mc_thread *thread, struct mc_span *span);

/* Drops those of all classes: all that the thread has is on lists then. */
void mc_held_leave_currents(struct mc_thread *thread);

/* The span has no slot in use and is on no list: it is kept, or unmade. */
void mc_held_put_empty(struct mc_thread *self, struct mc_span *span);

/* Unmakes the spans that are empty: kept ones, and current ones. With `purge`, their pages go at once. */
void mc_held_flush(struct mc_thread *thread, int purge);

/* So many bytes of spans were made or emptied. Once that is MC_IDLE_BYTES the thread asks whether its empty
 * spans have so much more memory than all its others, and if so, unmakes them. Any span but those in use
 * may be gone then, and none is current. */
static inline void mc_held_count_turned(struct mc_thread *self, uint64_t bytes);
void mc_held_give_back_idle(struct mc_thread *self);

void mc_thread_check(const struct mc_thread *thread);

static inline struct mc_span *mc_held_at(uint64_t address)
{
    return (struct mc_span *)address;
}

static inline void mc_held_push(struct mc_thread *thread, struct mc_span *span)
{
    uint64_t *head = &thread->spans[span->class_index];
    struct mc_span *first = mc_held_at(*head);
    span->next = 0;
    if (!first) {
        span->previous = (uint64_t)span;
        mc_store(head, (uint64_t)span); /* mc_ended_adopt() looks at it first */
        return;
    }
    span->previous = first->previous;
    mc_held_at(first->previous)->next = (uint64_t)span;
    first->previous = (uint64_t)span;
}

static inline void mc_held_push_first(struct mc_thread *thread, struct mc_span *span)
{
    uint64_t *head = &thread->spans[span->class_index];
    struct mc_span *first = mc_held_at(*head);
    span->next = (uint64_t)first;
    span->previous = first ? first->previous : (uint64_t)span;
    if (first) first->previous = (uint64_t)span;
    mc_store(head, (uint64_t)span);
}

static inline void mc_held_remove(struct mc_thread *thread, struct mc_span *span)
{
    uint64_t *head = &thread->spans[span->class_index];
    struct mc_span *first = mc_held_at(*head), *next = mc_held_at(span->next);
    if (span == first)
        mc_store(head, span->next);
    else
        mc_held_at(span->previous)->next = span->next;
    if (next)
        next->previous = span->previous;
    else if (span != first)
        first->previous = span->previous;
    span->next = span->previous = 0;
}

static inline void mc_held_take_current(struct mc_thread *self, struct mc_span *span)
{
    mc_span_set_flag(span, MC_SPAN_CURRENT);
    mc_step(&span->used, 1);
    self->current[span->class_index] = (uint64_t)span;
    mc_serving_follow(self, span->class_index, span);
}

static inline struct mc_span *mc_held_drop_current(struct mc_thread *self, unsigned class_index)
{
    struct mc_span *span = mc_held_at(self->current[class_index]);
    if (span == &mc_span_none) return 0;
    self->current[class_index] = (uint64_t)&mc_span_none;
    mc_serving_follow(self, class_index, 0);
    if (span->state == MC_SPAN_CACHE) return 0;
    mc_span_clear_flag(span, MC_SPAN_CURRENT);
    mc_step(&span->used, -1);
    return span;
}

/* It has a slot to give, or may have. */
static inline int mc_held_has_more(const struct mc_span *span)
{
    return span->free || span->purged || span->fresh < span->slot_count;
}

/* Where frees of the owner's full spans of that class go, if it is a direct one. */
static inline uint64_t mc_held_shared_list(const struct mc_span *span)
{
    struct mc_thread *owner = (struct mc_thread *)span->owner;
    return (uint64_t)&owner->serving[span->class_index].reuse;
}

/* The flag last: others may have the span to themselves from then on (waiting.h). */
static inline void mc_held_set_full(struct mc_span *span)
{
    if (span->class_index < MC_DIRECT_CLASSES)
        mc_store(&span->list, mc_held_shared_list(span));
    else
        mc_store(&span->limit, 0);
    mc_span_set_flag(span, MC_SPAN_FULL);
}

static inline void mc_held_count_turned(struct mc_thread *self, uint64_t bytes)
{
    self->turned += bytes;
    if (unlikely(self->turned >= MC_IDLE_BYTES)) mc_held_give_back_idle(self);
}

#endif
