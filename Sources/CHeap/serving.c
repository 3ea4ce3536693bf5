/* SPDX-License-Identifier: MIT */
/* See serving.h. */
#include "serving.h"

#include "cache.h"
#include "check.h"
#include "pagemap.h"
#include "tag.h"

static struct mc_slot *slot_at(uint64_t address)
{
    return (struct mc_slot *)address;
}

static struct mc_slot *last_of(uint64_t list, uint32_t *count)
{
    struct mc_slot *slot = slot_at(list);
    for (*count = 1; slot->next; slot = slot->next)
        ++*count;
    return slot;
}

/* `count` slots come here, or leave. */
static void step(struct mc_serving *serving, struct mc_span *from, int64_t count)
{
    mc_step(&from->used, (int32_t)count);
    mc_store(&serving->counts, serving->counts - (uint64_t)count);
}

void mc_serving_fill(struct mc_serving *serving, struct mc_span *span)
{
    uint32_t count;
    if (likely(!span->purged))
        count = span->fresh + 1u - (uint16_t)span->used;
    else
        last_of(span->free, &count);
    step(serving, span, count);
    mc_store(&serving->span, (uint64_t)span);
    mc_reuse_not_served(serving);
    mc_store(&serving->free, span->free);
    mc_store(&span->free, 0);
}

void mc_serving_fill_cached(struct mc_serving *serving, struct mc_span *list)
{
    step(serving, list, mc_cache_count(list));
    mc_store(&serving->span, 0);
    mc_reuse_not_served(serving);
    mc_store(&serving->free, list->free);
    mc_store(&list->free, 0);
}

/* Before the list of the span, or of the cache, that they came from. */
static void put_back(struct mc_serving *serving, struct mc_span *from)
{
    uint32_t count;
    struct mc_slot *last = last_of(serving->free, &count);
    mc_store(&last->next, slot_at(from->free));
    mc_store(&from->free, serving->free);
    step(serving, from, -(int64_t)count);
    mc_store(&serving->free, 0);
    mc_store(&serving->span, 0);
}

void mc_serving_return(struct mc_thread *thread, unsigned class_index)
{
    struct mc_serving *serving = mc_serving_of(thread, class_index);
    struct mc_span *lists = (struct mc_span *)thread->cache;
    if (serving->free && !mc_reuse_is_served(serving->reuse))
        put_back(serving, serving->span ? (struct mc_span *)serving->span : &lists[class_index]);
    mc_reuse_return(thread, serving);
}

void mc_serving_return_all(struct mc_thread *thread)
{
    for (unsigned i = 0; i < MC_DIRECT_CLASSES; i++)
        mc_serving_return(thread, i);
}

void mc_serving_return_cached(struct mc_thread *thread)
{
    for (unsigned i = 0; i < MC_DIRECT_CLASSES; i++) {
        if (!thread->serving[i].span)
            mc_serving_return(thread, i);
        else
            mc_reuse_return(thread, &thread->serving[i]);
    }
}

int mc_serving_is_idle(const struct mc_thread *thread, unsigned class_index)
{
    const struct mc_span *span = (const struct mc_span *)thread->current[class_index];
    if (class_index >= MC_DIRECT_CLASSES) return span->used == 1;
    const struct mc_serving *serving = &thread->serving[class_index];
    int holds = serving->span == (uint64_t)span && !mc_reuse_is_served(serving->reuse);
    uint32_t count = holds ? mc_serving_count(serving) : 0;
    return (uint32_t)span->used == 1 + count;
}

int mc_serving_leave_empty(struct mc_thread *thread, unsigned class_index)
{
    if (!mc_serving_is_idle(thread, class_index)) return 0;
    if (class_index < MC_DIRECT_CLASSES && thread->serving[class_index].span)
        mc_serving_return(thread, class_index);
    return 1;
}

int mc_serving_has(const struct mc_span *span, const void *slot)
{
    if (span->class_index >= MC_DIRECT_CLASSES) return 0;
    struct mc_thread *thread = mc_thread_first();
    for (; thread; thread = mc_thread_next(thread)) {
        struct mc_serving *serving = mc_serving_of(thread, span->class_index);
        if (mc_slots_reach(mc_load(&serving->free), span->class_index, slot) ||
            mc_slots_reach(mc_load(&serving->reuse.free), span->class_index, slot))
            return 1;
    }
    return 0;
}

/* So many slots of a class. */
static void check(uint64_t list, unsigned class_index, uint32_t expected)
{
    uint32_t count = 0;
    for (uint64_t at = list; at; at = (uint64_t)slot_at(at)->next) {
        const struct mc_span *span = mc_page_map_find((void *)at);
        mc_assert(span && span->state == MC_SPAN_CLASS && span->class_index == class_index);
        uint64_t index = mc_slot_index(span, (void *)at);
        mc_assert(span->base + index * mc_class_slot_size(class_index) == at &&
                  index < span->fresh);
        mc_assert(slot_at(at)->mark == span->mark && span->used > 0);
        mc_assert(!mc_tag_of_slot(span, (void *)at) && ++count <= UINT16_MAX);
    }
    mc_assert(count == expected);
}

/* All slots lie in the span, or if there is none, in spans of the owner. */
static void check_span(uint64_t list, uint64_t span, const struct mc_thread *owner)
{
    for (; list; list = (uint64_t)slot_at(list)->next) {
        const struct mc_span *found = mc_page_map_find((void *)list);
        mc_assert(span ? (uint64_t)found == span : found->owner == (uint64_t)owner);
    }
}

void mc_serving_check(struct mc_thread *thread)
{
    for (unsigned i = 0; i < MC_DIRECT_CLASSES; i++) {
        const struct mc_serving *serving = &thread->serving[i];
        check(serving->free, i, mc_serving_count(serving));
        check(serving->reuse.free, i, mc_reuse_waiting(serving));
        mc_assert(mc_reuse_room_of(serving) == mc_reuse_room(i) && serving->reuse.used > 0);
        check_span(serving->reuse.free, 0, thread);
        int reused = mc_reuse_is_served(serving->reuse);
        if (serving->span || reused) check_span(serving->free, reused ? 0 : serving->span, thread);
        mc_assert(!serving->span || serving->span == thread->current[i]);
    }
}
