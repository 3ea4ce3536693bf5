/* SPDX-License-Identifier: MIT */
/* See cache.h. */
#include "cache.h"

#include "check.h"
#include "limits.h"
#include "meta.h"
#include "pagemap.h"
#include "proxy.h"
#include "span.h"
#include "thread.h"

_Static_assert(MC_CACHE_BYTES / 2 >= 4096, "lists of the largest slots can be halved");
_Static_assert(MC_CACHE_FIRST >= 4096, "and begin with room for one");

static const struct mc_cache *cache_of(const struct mc_thread *thread)
{
    return (const struct mc_cache *)mc_load_acquire(&thread->cache); /* pairs with make() */
}

static uint16_t limit_of(uint64_t slot_size, uint64_t bytes)
{
    uint64_t slots = bytes / slot_size;
    return slots < MC_CACHE_SLOTS ? (uint16_t)slots : MC_CACHE_SLOTS;
}

static struct mc_span *make(struct mc_thread *self)
{
    struct mc_cache *cache = mc_meta_alloc(sizeof(*cache));
    if (!cache) return 0;
    struct mc_span *lists = cache->lists;
    for (unsigned i = 0; i < MC_CACHE_CLASSES; i++) {
        lists[i].state = MC_SPAN_CACHE;
        lists[i].class_index = (uint8_t)i;
        lists[i].slot_count = limit_of(mc_class_slot_size(i), MC_CACHE_FIRST);
    }
    mc_store_release(&self->cache, (uint64_t)cache);
    return lists;
}

/* Slots of one span, on their way to its owner. */
struct group {
    struct mc_span *span;
    struct mc_slot *first, *last;
    uint32_t count;
};

static void send(struct group *group)
{
    if (group->span) mc_span_push_remotes(group->span, group->first, group->last, group->count);
    group->span = 0;
}

static void add(struct group *group, struct mc_span *span, struct mc_slot *slot)
{
    if (group->span != span) {
        send(group);
        *group = (struct group){span, slot, slot, 0};
    }
    mc_store(&slot->next, slot == group->first ? 0 : group->first);
    group->first = slot;
    group->count++;
}

/* Hands back all slots but the `keep` that were put in last. */
static void shrink(struct mc_span *list, uint32_t keep)
{
    enum { GROUPS = 8 };
    struct group groups[GROUPS] = {{0, 0, 0, 0}};
    uint64_t *link = &list->free;
    for (; keep && *link; keep--)
        link = (uint64_t *)&((struct mc_slot *)*link)->next;
    struct mc_slot *slot = (struct mc_slot *)*link;
    uint32_t gone = 0;
    mc_store(link, 0);
    for (struct mc_slot *next; slot; slot = next, gone++) {
        struct mc_span *span = mc_page_map_find(slot);
        next = slot->next;
        add(&groups[(uint64_t)span / sizeof(*span) % GROUPS], span, slot);
    }
    for (unsigned i = 0; i < GROUPS; i++)
        send(&groups[i]);
    mc_step(&list->used, (int32_t)gone);
}

/* A thread that only frees has no struct: it takes one when a cache is worth it. */
static struct mc_thread *attach_late(void)
{
    static __thread unsigned freed;
    return ++freed < MC_CACHE_ATTACH ? 0 : mc_thread_attach();
}

int mc_cache_push(struct mc_thread *self, const struct mc_span *span, struct mc_slot *slot)
{
    if (span->class_index >= MC_CACHE_CLASSES) return 0;
    if (unlikely(self == &mc_thread_none)) self = attach_late();
    if (unlikely(!self)) return 0;
    struct mc_span *lists = (struct mc_span *)self->cache;
    if (unlikely(!lists)) lists = make(self);
    if (unlikely(!lists)) return 0;
    struct mc_span *list = &lists[span->class_index];
    if (mc_cache_count(list) >= list->slot_count)
        shrink(list, list->fresh ? list->slot_count / 2 : 0);
    mc_cache_add(list, slot, span->mark);
    return 1;
}

/* The thread asks for such slots itself. That it did, `fresh` tells, which a list has no other use for. */
static void widen(struct mc_span *list)
{
    list->slot_count = limit_of(mc_class_slot_size(list->class_index), MC_CACHE_BYTES);
    list->fresh = 1;
    list->strays = 0;
}

/* `strays` are the slots that came since the last time and not by a proxy; `homing` is how many more times the
 * list goes home. */
static int goes_home(struct mc_span *list, int has_own)
{
    uint64_t strays = list->strays, homing = list->homing;
    list->strays = 0;
    if (!homing && strays * MC_CACHE_STRAYS > list->slot_count) homing = MC_CACHE_HOMING;
    list->homing = homing ? homing - 1 : 0;
    return (homing && has_own) || ++list->untagged_frees % MC_CACHE_RETURNS == 0;
}

struct mc_span *mc_cache_ready(struct mc_thread *self, unsigned class_index, int has_own)
{
    if (likely(!self->cache) || class_index >= MC_CACHE_CLASSES) return 0;
    struct mc_span *list = (struct mc_span *)self->cache + class_index;
    if (unlikely(!list->fresh)) widen(list);
    if (unlikely(goes_home(list, has_own))) {
        mc_proxy_send_home((struct mc_cache *)self->cache, list);
        shrink(list, 0);
        return 0;
    }
    mc_proxy_gather(list);
    return mc_cache_count(list) < MC_CACHE_SERVES ? 0 : list;
}

void mc_cache_flush_class(struct mc_thread *thread, unsigned class_index)
{
    if (!thread->cache || class_index >= MC_CACHE_CLASSES) return;
    struct mc_cache *cache = (struct mc_cache *)thread->cache;
    mc_proxy_flush(cache, class_index);
    shrink(&cache->lists[class_index], 0);
}

void mc_cache_flush(struct mc_thread *thread)
{
    if (likely(!thread->cache)) return;
    for (unsigned i = 0; i < MC_CACHE_CLASSES; i++)
        mc_cache_flush_class(thread, i);
}

int mc_slots_reach(uint64_t list, unsigned class_index, const void *wanted)
{
    for (unsigned steps = 0; list && steps <= UINT16_MAX; steps++) {
        const struct mc_span *span = mc_page_map_find((void *)list);
        if (list == (uint64_t)wanted) return 1;
        if (list % MC_QUANTUM || !span || mc_load_acquire(&span->state) != MC_SPAN_CLASS ||
            span->class_index != class_index)
            return 0;
        list = (uint64_t)mc_load(&((struct mc_slot *)list)->next);
    }
    return 0;
}

int mc_cache_has(const struct mc_span *span, const void *slot)
{
    if (span->class_index >= MC_CACHE_CLASSES) return 0;
    struct mc_thread *thread = mc_thread_first();
    for (; thread; thread = mc_thread_next(thread)) {
        const struct mc_cache *cache = cache_of(thread);
        if (!cache) continue;
        uint64_t list = mc_load(&cache->lists[span->class_index].free),
                 proxy = mc_load(&cache->proxies[mc_proxy_number(span)].free);
        if (mc_slots_reach(list, span->class_index, slot) ||
            mc_slots_reach(proxy, span->class_index, slot))
            return 1;
    }
    return 0;
}

void mc_cache_check(const struct mc_thread *thread)
{
    const struct mc_cache *cache = cache_of(thread);
    if (!cache) return;
    const struct mc_span *lists = cache->lists;
    mc_proxy_check(cache);
    for (unsigned i = 0; i < MC_CACHE_CLASSES; i++) {
        uint32_t count = 0;
        for (uint64_t at = lists[i].free; at; at = (uint64_t)((struct mc_slot *)at)->next) {
            const struct mc_span *span = mc_page_map_find((void *)at);
            mc_assert(span && span->state == MC_SPAN_CLASS && span->class_index == i);
            mc_assert(((struct mc_slot *)at)->mark == span->mark && span->used);
            count++;
        }
        mc_assert(lists[i].state == MC_SPAN_CACHE && count == mc_cache_count(&lists[i]));
    }
}
