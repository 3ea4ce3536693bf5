/* SPDX-License-Identifier: MIT */
/* See span.h. */
#include "span.h"

#include <errno.h>

#include "arena.h"
#include "cache.h"
#include "check.h"
#include "class.h"
#include "held.h"
#include "huge.h"
#include "os.h"
#include "print.h"
#include "root.h"
#include "serving.h"
#include "structs.h"
#include "tag.h"
#include "trim.h"

static uint64_t secret; /* [shared] written once: what marks are made of */

/* What free slots of the span at `base` hold in their second word: not guessable, so that no
 * program writes it by accident, and never 0. */
static uint64_t mark_for(uint64_t base)
{
    uint64_t seen = mc_load(&secret);
    while (unlikely(!seen)) {
        uint64_t fresh = mc_os_random() | 1;
        if (mc_swap_if(&secret, &seen, fresh)) seen = fresh;
    }
    return (seen ^ base) * 0x9e3779b97f4a7c15ull | 1;
}

/* Of a full span nothing has room for what is freed but a list that several share. */
static int is_plain(const struct mc_span *span)
{
    int full = span->flags & MC_SPAN_FULL && span->list == mc_span_own_list(span);
    return !full && !(span->flags & MC_SPAN_TAGGED) && !span->purged;
}

void mc_span_set_limit(struct mc_span *span)
{
    uint64_t slot_size = mc_class_slot_size(span->class_index);
    mc_store(&span->limit, is_plain(span) ? span->fresh * (span->reciprocal * slot_size) : 0);
}

struct mc_span *mc_span_make(unsigned class_index, struct mc_thread *owner)
{
    struct mc_run run;
    struct mc_span *span = mc_span_struct_take();
    if (!span) return 0;
    if (mc_arena_take(mc_class_span_slices(class_index), MC_SLICE, &run)) {
        mc_span_struct_give(span);
        return 0;
    }
    uint64_t slot_size = mc_class_slot_size(class_index);
    /* The struct may still be looked at: meta.h, waiting.c, huge.c. */
    mc_store(&span->base, run.base);
    span->reciprocal = mc_reciprocal_of(slot_size);
    span->free = 0;
    mc_store(&span->mark, mark_for(run.base)); /* seen by mc_structs_trim() */
    mc_span_count_for(span, class_index);
    mc_store(&span->fresh, 0);
    mc_store(&span->slot_count, (uint16_t)(run.slices * MC_SLICE / slot_size));
    mc_store(&span->flags, run.fresh == run.slices ? MC_SPAN_ZERO : 0);
    span->untagged_frees = 0;
    span->purged = 0;
    mc_store(&span->list, mc_span_own_list(span));
    mc_store(&span->remote, 0);
    mc_store(&span->notify_next, 0);
    span->owner = (uint64_t)owner;
    if (owner->grown[class_index] < UINT8_MAX) owner->grown[class_index]++;
    span->tags = 0;
    mc_store(&span->more_tags, 0); /* was a large span's `size`, see take_fitting() */
    span->next = span->previous = 0;
    mc_span_set_limit(span);
    if (mc_page_map_set(run.base, run.slices, span)) {
        mc_arena_give(run.base, run.slices);
        mc_span_struct_give(span);
        return 0;
    }
    owner->held += run.slices * MC_SLICE;
    mc_store_release(&span->state, MC_SPAN_CLASS);
    return span;
}

static struct mc_thread *owner_of(const struct mc_span *span)
{
    return (struct mc_thread *)span->owner;
}

void mc_span_unmake(struct mc_span *span, int purge)
{
    mc_assert(span->used == 0 && span->state == MC_SPAN_CLASS);
    uint64_t base = span->base, slices = mc_class_span_size(span) / MC_SLICE;
    mc_page_map_clear(base, slices);
    if (unlikely(mc_span_has_tags(span))) mc_tags_give(span);
    owner_of(span)->grown[span->class_index] = 0;
    owner_of(span)->held -= slices * MC_SLICE;
    mc_store(&span->limit, 0);
    mc_own_map_forget(owner_of(span), span);
    mc_span_struct_give(span);
    if (purge)
        mc_arena_give_pages(base, slices);
    else
        mc_arena_give(base, slices);
}

static int will_be_used(const struct mc_span *span)
{
    return span->flags & MC_SPAN_ZERO &&
           owner_of(span)->grown[span->class_index] >= MC_GROWN_SPANS &&
           !mc_huge_is(MC_HUGE_ALWAYS); /* those come with the first touch */
}

/* Before `count` slots are carved: if they are the first in a group of pages, those come. */
static void populate_group(const struct mc_span *span, uint32_t count)
{
    enum { GROUP = MC_GROWN_PAGES * MC_PAGE };
    static uint32_t impossible; /* [shared] the kernel is an old one */
    _Static_assert(MC_SLICE % GROUP == 0, "spans are whole groups");
    uint64_t slot_size = mc_class_slot_size(span->class_index);
    uint64_t start = span->fresh * slot_size, end = start + count * slot_size;
    uint64_t group = (end - 1) & ~(uint64_t)(GROUP - 1);
    if (start > group || mc_load(&impossible)) return;
    if (mc_os_populate((void *)(span->base + group), GROUP) == EINVAL) mc_store(&impossible, 1);
}

int mc_span_carve(struct mc_span *span)
{
    if (span->purged) return mc_trim_restore(span);
    uint64_t slot_size = mc_class_slot_size(span->class_index);
    uint32_t count = (uint32_t)(MC_PAGE / slot_size);
    uint32_t left = (uint32_t)(span->slot_count - span->fresh);
    if (count < 1) count = 1;
    if (count > left) count = left;
    if (!count) return 0;
    if (unlikely(will_be_used(span))) populate_group(span, count);
    uint64_t first = span->base + span->fresh * slot_size;
    struct mc_slot *slot = (struct mc_slot *)first;
    for (uint32_t i = 1; i < count; i++) {
        struct mc_slot *next = (struct mc_slot *)(first + i * slot_size);
        slot->mark = span->mark;
        slot->next = next;
        slot = next;
    }
    slot->mark = span->mark;
    slot->next = 0;
    mc_store(&span->fresh, (uint16_t)(span->fresh + count));
    mc_span_set_limit(span);
    span->free = first;
    return count == 1 && span->flags & MC_SPAN_ZERO ? MC_CARVED_ZERO : MC_CARVED;
}

void mc_span_notify(struct mc_span *span, uint64_t tail)
{
    /* The owner may change until the push, when another thread adopts the span; the old one then
     * hands the notice on (see collect_notified). */
    struct mc_thread *owner = (struct mc_thread *)mc_load_acquire(&span->owner);
    uint64_t head = mc_load(&owner->notified);
    do {
        mc_store(&span->notify_next, head | tail << 48);
        /* Release pairs with mc_take() in collect_notified. No ABA: the list is taken whole. */
    } while (!mc_swap_if(&owner->notified, &head, (uint64_t)span));
}

/* No ABA: the owner takes the whole list at once and never pops one slot, so if `word` left and
 * came back between our load and our exchange it is again the head, and `next` is still right.
 * Release pairs with the acquire in mc_span_collect(). */
void mc_span_push_remotes(struct mc_span *span, struct mc_slot *first, struct mc_slot *last,
                          uint32_t count)
{
    uint64_t word = mc_load(&span->remote), fresh;
    do {
        mc_store(&last->next, (struct mc_slot *)mc_remote_slot(word));
        fresh = (mc_remote_count(word) + count) << 48 | (uint64_t)first;
    } while (!mc_swap_if(&span->remote, &word, fresh));
    if (!word) mc_span_notify(span, ((uint64_t)last - span->base) / MC_QUANTUM);
}

void mc_span_push_remote(struct mc_span *span, struct mc_slot *slot)
{
    mc_store(&slot->mark, span->mark);
    mc_span_push_remotes(span, slot, slot, 1);
}

static unsigned state_of(uint64_t remote)
{
    return mc_remote_slot(remote) ? 0 : (unsigned)remote & (MC_QUANTUM - 1);
}

int mc_span_collect(struct mc_span *span, uint64_t tail)
{
    uint64_t word = mc_load(&span->remote), left;
    do {
        left = state_of(word) == MC_REMOTE_HELD ? word + MC_REMOTE_SEEN - MC_REMOTE_HELD : 0;
    } while (!mc_swap_if(&span->remote, &word, left));
    if (unlikely(left)) return 0;
    if (unlikely(state_of(word) == MC_REMOTE_GONE)) return 1;
    struct mc_slot *last = (struct mc_slot *)(span->base + tail * MC_QUANTUM);
    if (span->free) last->next = (struct mc_slot *)span->free;
    span->free = mc_remote_slot(word);
    mc_step(&span->used, -(int32_t)mc_remote_count(word));
    return 1;
}

/* 1 if every slot is on this `remote` word. Then nobody can have one or hand one out, and only the owner, as it
 * collects, would change anything of a full span. */
static int is_whole(const struct mc_span *span, uint64_t remote)
{
    return mc_remote_slot(remote) && mc_remote_count(remote) == mc_load(&span->slot_count) &&
           mc_load_acquire(&span->flags) & MC_SPAN_FULL;
}

/* Ends the holding of the span. The owner's notice may be spent. */
static void let_go(struct mc_span *span, uint64_t remote)
{
    uint64_t was = __atomic_exchange_n(&span->remote, remote, __ATOMIC_ACQ_REL);
    if (state_of(was) != MC_REMOTE_SEEN) return;
    struct mc_slot *last = (struct mc_slot *)mc_remote_slot(remote);
    while (last && last->next)
        last = last->next;
    mc_span_notify(span, last ? ((uint64_t)last - span->base) / MC_QUANTUM : 0);
}

uint64_t mc_span_give_back_whole(struct mc_span *span)
{
    if (mc_load_acquire(&span->state) != MC_SPAN_CLASS) return 0;
    uint64_t word = mc_load_acquire(&span->remote), seen = word;
    if (!is_whole(span, word)) return 0;
    uint64_t held = (word & ~((1ull << 48) - 1)) | MC_REMOTE_HELD;
    if (!mc_swap_if(&span->remote, &seen, held)) return 0;
    uint64_t size = mc_class_span_size(span); /* it is the owner's again once it is let go */
    /* What was read before may have been of another span in this struct. */
    if (!is_whole(span, word) || !mc_trim_whole(span)) {
        let_go(span, word);
    } else {
        mc_step(&span->used, -(int32_t)mc_remote_count(word));
        let_go(span, MC_REMOTE_GONE);
    }
    return size;
}

static int list_has(const struct mc_span *span, uint64_t list, const void *slot)
{
    uint64_t size = mc_class_span_size(span);
    for (uint32_t steps = 0; list && steps < span->slot_count; steps++) {
        if (list - span->base >= size || list % MC_QUANTUM) return 0;
        if (list == (uint64_t)slot) return 1;
        list = (uint64_t)mc_load(&((struct mc_slot *)list)->next);
    }
    return 0;
}

int mc_span_has_free(const struct mc_span *span, const void *slot)
{
    int found = mc_trim_is_purged(span, slot) || list_has(span, mc_load(&span->free), slot) ||
                list_has(span, mc_remote_slot(mc_load(&span->remote)), slot) ||
                mc_cache_has(span, slot) || mc_serving_has(span, slot);
    /* A list that changed underfoot may have led through a live object that points here; but then
     * this slot is live too, and its mark is no more than a coincidence that does not last. */
    return found && mc_load_acquire(&((const struct mc_slot *)slot)->mark) == span->mark;
}

struct mc_span *mc_span_of_live(const void *object, const char *caller)
{
    struct mc_span *span = mc_page_map_find(object);
    if (unlikely(!span))
        mc_panic(caller, object, "invalid pointer or double free: no object is there");
    uint8_t state = mc_load(&span->state);
    uint64_t offset = (uint64_t)object - span->base;
    if (state != MC_SPAN_CLASS) {
        if (state == MC_SPAN_WAITING && !offset) mc_panic(caller, object, "double free");
        if (offset) mc_panic(caller, object, "invalid pointer: inside an object, not at its start");
        return span;
    }
    unsigned __int128 product = (unsigned __int128)offset * span->reciprocal;
    if (unlikely((uint64_t)product >= span->reciprocal))
        mc_panic(caller, object, "invalid pointer: inside an object, not at its start");
    if (unlikely((uint64_t)(product >> 64) >= mc_load(&span->fresh)))
        mc_panic(caller, object, "invalid pointer: never allocated");
    int looks_free = mc_load(&((const struct mc_slot *)object)->mark) == span->mark;
    if (unlikely(looks_free) ? mc_span_has_free(span, object) : mc_trim_is_purged(span, object))
        mc_panic(caller, object, "double free");
    return span;
}

void mc_span_check(const struct mc_span *span)
{
    mc_assert(span->state == MC_SPAN_CLASS && span->class_index < MC_CLASS_COUNT);
    uint64_t slot_size = mc_class_slot_size(span->class_index);
    mc_assert(span->fresh <= span->slot_count);
    mc_assert(mc_remote_count(span->remote) <= (uint64_t)span->used);
    uint32_t free_count = 0;
    for (struct mc_slot *slot = (struct mc_slot *)span->free; slot; slot = slot->next) {
        uint64_t offset = (uint64_t)slot - span->base;
        mc_assert(offset % slot_size == 0 && offset / slot_size < span->fresh);
        mc_assert(slot->mark == span->mark && !mc_trim_is_purged(span, slot));
        mc_assert(!mc_tag_of_slot(span, slot));
        free_count++;
        mc_assert(free_count <= span->fresh);
    }
    for (uint32_t i = 0; i < span->fresh; i++)
        free_count += mc_trim_is_purged(span, (void *)(span->base + i * slot_size));
    mc_assert((uint32_t)span->used + free_count ==
              (uint32_t)span->fresh + !!(span->flags & MC_SPAN_CURRENT));
    mc_assert(span->limit == (is_plain(span) ? mc_limit_of(span->fresh, slot_size) : 0));
    int shares = span->flags & MC_SPAN_FULL && span->class_index < MC_DIRECT_CLASSES;
    mc_assert(span->list == (shares ? mc_held_shared_list(span) : mc_span_own_list(span)));
    int gone = state_of(span->remote) == MC_REMOTE_GONE;
    mc_assert(!gone || (span->flags & MC_SPAN_FULL && !span->used && span->purged));
    mc_assert(!(span->flags & MC_SPAN_FULL) || gone ||
              (!span->free && !span->purged && span->fresh == span->slot_count));
    for (uint64_t at = 0; at < mc_class_span_size(span); at += MC_SLICE)
        mc_assert(mc_page_map_find((void *)(span->base + at)) == span);
}
