/* SPDX-License-Identifier: MIT */
/* Spans: runs of slices cut into slots of one class. struct mc_span and its invariants are in
 * memctl_heap.h, since memctl reads them from outside.
 *
 * A slot is handed out from `free`, a list through the free slots themselves. Slots are carved a
 * page's worth at a time, so that pages are not touched before they are needed. Only the owner
 * touches `free`, `used` and `fresh`; any other thread pushes a slot it frees on `remote`, and, if
 * that list was empty, tells the owner by pushing the span on the owner's `notified` list. So a
 * span is on `notified` exactly while `remote` is not empty or its pusher is about to tell.
 *
 * A span is unmade only when `used` is 0; slots on `remote` count as used, so nobody else can hold
 * a reference then. */
#ifndef MC_SPAN_H
#define MC_SPAN_H

#include "heap.h"
#include "pagemap.h"

/* A new span of the class, owned by `owner`, on no list; NULL when memory is short. */
struct mc_span *mc_span_make(unsigned class_index, struct mc_thread *owner);

/* Requires used == 0 and that it is on no list. With `purge`, its pages go back at once. */
void mc_span_unmake(struct mc_span *span, int purge);

/* Puts fresh slots on `free`. Requires that `free` is empty. Returns 0 if there were none left, and
 * MC_CARVED_ZERO for a single slot that reads as zero behind its first two words. */
enum { MC_CARVED = 1, MC_CARVED_ZERO = 2 };
int mc_span_carve(struct mc_span *span);

/* A slot, or a list of `count` with marks from `first` to `last`. Any thread but the owner, or the
 * owner. They are the caller's until then. Whoever finds `remote` empty tells the owner, and tells which
 * slot will be the last of the list, however many are pushed before it: so nobody has to walk it. */
void mc_span_push_remote(struct mc_span *span, struct mc_slot *slot);
void mc_span_push_remotes(struct mc_span *span, struct mc_slot *first, struct mc_slot *last,
                          uint32_t count);

/* Tells the span's owner that `remote` is not empty, and its last slot, in quanta from the span's base. */
void mc_span_notify(struct mc_span *span, uint64_t tail);

/* Owner: takes what others freed back to `free`; the span was taken off `notified` just before, where it
 * said `tail`. Returns 0 if another thread is at it, which will tell again. */
int mc_span_collect(struct mc_span *span, uint64_t tail);

/* Of a full span of which others have freed every slot: its pages go back, and the owner will find it empty.
 * Any thread. Returns how many bytes it has, also if the kernel refused; 0: it is none. */
uint64_t mc_span_give_back_whole(struct mc_span *span);

/* `flags` are read by other threads that free; they are the owner's to change. Release pairs with
 * is_whole() in span.c: of a full span the owner has read all it wants to. */
static inline void mc_span_set_flag(struct mc_span *span, unsigned flag)
{
    mc_store_release(&span->flags, (uint8_t)(span->flags | flag));
}

static inline void mc_span_clear_flag(struct mc_span *span, unsigned flag)
{
    mc_store(&span->flags, (uint8_t)(span->flags & ~flag));
}

/* The list that lies in the span itself. */
static inline uint64_t mc_span_own_list(const struct mc_span *span)
{
    return (uint64_t)&span->free;
}

/* Sets `limit` after a change of flags, `list`, `purged` or `fresh`. */
void mc_span_set_limit(struct mc_span *span);

/* 1 if the slot is on `free` or `remote` or in a thread's cache. May be called by any thread: a list that changes
 * underfoot is read without leaving the span, and the answer may then be 0. */
int mc_span_has_free(const struct mc_span *span, const void *slot);

/* The span whose live slot starts at `object`. Anything else is a panic that names `caller`. */
struct mc_span *mc_span_of_live(const void *object, const char *caller);

void mc_span_check(const struct mc_span *span);
void mc_spans_check(void); /* all there are */

#endif
