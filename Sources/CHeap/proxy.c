/* SPDX-License-Identifier: MIT */
/* See proxy.h. */
#include "proxy.h"

#include "check.h"
#include "limits.h"
#include "pagemap.h"
#include "span.h"
#include "thread.h"

static uint32_t are_there; /* [shared] 1: some thread has had one */

static struct mc_cache *cache_of(const struct mc_thread *thread)
{
    return (struct mc_cache *)mc_load_acquire(&thread->cache); /* pairs with make() in cache.c */
}

static struct mc_slot *slot_at(uint64_t address)
{
    return (struct mc_slot *)address;
}

/* -- slots leave --------------------------------------------------------------------------- */

/* Slots that are linked, `first` to `last`; of one span. */
struct chain {
    struct mc_slot *first, *last;
    uint32_t count;
};

/* What the proxy has, but the slot freed last, which stays. `first` is NULL if there is no more. */
static struct chain take(struct mc_span *proxy)
{
    struct mc_slot *stays = slot_at(proxy->free);
    if (!stays) return (struct chain){0, 0, 0};
    struct chain chain = {stays->next, slot_at(proxy->last), mc_proxy_count(proxy) - 1};
    if (!chain.first) return chain;
    mc_store(&stays->next, 0);
    proxy->last = (uint64_t)stays;
    mc_store(&proxy->used, proxy->slot_count - 1);
    return chain;
}

static struct chain take_all(struct mc_span *proxy)
{
    struct chain chain = {slot_at(proxy->free), slot_at(proxy->last), mc_proxy_count(proxy)};
    mc_store(&proxy->limit, 0);
    mc_store(&proxy->free, 0);
    mc_store(&proxy->used, proxy->slot_count);
    return chain;
}

static void put(struct mc_span *list, struct chain chain)
{
    if (!chain.first) return;
    mc_store(&chain.last->next, slot_at(list->free));
    mc_store(&list->free, (uint64_t)chain.first);
    mc_step(&list->used, -(int32_t)chain.count);
}

/* Nothing was freed into it since the last look (or as much as makes no difference). */
static int is_idle(struct mc_span *proxy)
{
    uint64_t before = proxy->seen;
    proxy->seen = (uint32_t)proxy->used;
    return before == proxy->seen;
}

/* What the proxy that `link` leads to gives up when its class is looked at. Goes on to the next one. */
static struct chain give(uint64_t **link)
{
    struct mc_span *proxy = (struct mc_span *)**link;
    if (is_idle(proxy)) {
        **link = proxy->next;
        return take_all(proxy);
    }
    struct chain chain = take(proxy);
    proxy->seen = (uint32_t)proxy->used;
    *link = &proxy->next;
    return chain;
}

void mc_proxy_gather(struct mc_span *list)
{
    for (uint64_t *link = &list->next; *link && (uint32_t)-list->used <= MC_CACHE_SLOTS;)
        put(list, give(&link));
}

static void send(const struct mc_cache *cache, const struct mc_span *proxy, struct chain chain)
{
    uint64_t span = cache->places[proxy - cache->proxies].stands_for;
    if (chain.first)
        mc_span_push_remotes((struct mc_span *)span, chain.first, chain.last, chain.count);
}

void mc_proxy_send_home(struct mc_cache *cache, struct mc_span *list)
{
    for (uint64_t *link = &list->next; *link;) {
        const struct mc_span *proxy = (const struct mc_span *)*link;
        send(cache, proxy, give(&link));
    }
}

void mc_proxy_flush(struct mc_cache *cache, unsigned class_index)
{
    struct mc_span *list = &cache->lists[class_index], *proxy = (struct mc_span *)list->next;
    list->next = 0;
    for (; proxy; proxy = (struct mc_span *)proxy->next)
        send(cache, proxy, take_all(proxy));
}

/* To the list if the thread asks for such, they are not to go home and there is room; else to their owner. */
static void pass_on(struct mc_cache *cache, const struct mc_span *proxy, struct chain chain)
{
    struct mc_span *list = &cache->lists[proxy->class_index];
    if (list->fresh && !list->homing && (uint32_t)-list->used + chain.count <= list->slot_count)
        put(list, chain);
    else
        send(cache, proxy, chain);
}

void mc_proxy_full(struct mc_thread *self, struct mc_span *proxy)
{
    pass_on(cache_of(self), proxy, take(proxy));
}

/* Every slot of the span that is not free yet is on its way back to the owner or here. */
static int has_the_last(const struct mc_cache *cache, const struct mc_span *proxy)
{
    const struct mc_span *span =
        (const struct mc_span *)cache->places[proxy - cache->proxies].stands_for;
    return proxy->free && (uint32_t)mc_load(&span->used) ==
                              mc_remote_count(mc_load(&span->remote)) + mc_proxy_count(proxy);
}

/* A thread that only frees, and goes on with other spans, keeps none of those that it is done with. */
static void retire(struct mc_cache *cache, struct mc_span *list)
{
    uint64_t *link = &list->next;
    while (*link) {
        struct mc_span *proxy = (struct mc_span *)*link;
        if (is_idle(proxy) || has_the_last(cache, proxy)) {
            *link = proxy->next;
            pass_on(cache, proxy, take_all(proxy));
        } else {
            link = &proxy->next;
        }
    }
}

/* -- slots come ---------------------------------------------------------------------------- */

static void unlink_from(struct mc_span *list, struct mc_span *proxy)
{
    uint64_t *link = &list->next;
    while (*link != (uint64_t)proxy)
        link = &((struct mc_span *)*link)->next;
    *link = proxy->next;
}

static void add(struct mc_span *proxy, struct mc_slot *slot)
{
    if (!proxy->free) proxy->last = (uint64_t)slot;
    mc_store(&slot->next, slot_at(proxy->free));
    mc_store_release(&slot->mark, proxy->mark);
    mc_store(&proxy->free, (uint64_t)slot);
    mc_step(&proxy->used, -1);
}

_Static_assert(MC_PROXY_SLOTS / 2 >= MC_PROXY_WANTED, "has room for what waited for it");

/* Slots that a new proxy may have. */
static uint32_t room(const struct mc_span *list)
{
    uint32_t slots = list->slot_count, part = list->homing ? MC_PROXY_HOMING : 2;
    if (!list->fresh) return slots;
    return slots / part > MC_PROXY_SLOTS / 2 ? slots / part : MC_PROXY_SLOTS / 2;
}

/* Makes an empty proxy one of the span. */
static void stand_for(struct mc_span *proxy, struct mc_span *list, const struct mc_span *span)
{
    uint32_t slots = room(list);
    mc_store(&proxy->state, MC_SPAN_PROXY);
    proxy->base = span->base;
    proxy->reciprocal = span->reciprocal;
    proxy->mark = span->mark;
    proxy->list = mc_span_own_list(proxy);
    mc_store(&proxy->class_index, span->class_index);
    mc_store(&proxy->slot_count, (uint16_t)slots);
    mc_store(&proxy->used, (int32_t)slots);
    proxy->seen = 0;
    proxy->next = list->next;
    list->next = (uint64_t)proxy;
}

/* Slots of the span that went on the list before it had a proxy, as far as they are at hand. */
static void take_from_list(struct mc_span *proxy, struct mc_span *list, const struct mc_span *span)
{
    uint64_t size = mc_load(&span->fresh) * mc_class_slot_size(span->class_index);
    for (unsigned i = 1; i < MC_PROXY_WANTED; i++) {
        struct mc_slot *slot = slot_at(list->free);
        if (!slot || (uint64_t)slot - span->base >= size) return;
        mc_store(&list->free, (uint64_t)slot->next);
        mc_step(&list->used, 1);
        add(proxy, slot);
    }
}

static int is_plain(const struct mc_span *span)
{
    return !(__atomic_load_n(&span->flags, __ATOMIC_SEQ_CST) & MC_SPAN_TAGGED) &&
           !__atomic_load_n(&span->purged, __ATOMIC_SEQ_CST);
}

/* Frees of slots that are carved by now take the short path. */
static void serve(struct mc_span *proxy, const struct mc_span *span)
{
    uint64_t limit = mc_limit_of(mc_load(&span->fresh), mc_class_slot_size(span->class_index));
    if (mc_load(&proxy->limit) == limit || !is_plain(span)) return;
    mc_store(&are_there, 1);
    /* A full barrier: pairs with mc_proxies_stop(). */
    __atomic_exchange_n(&proxy->limit, limit, __ATOMIC_SEQ_CST);
    if (!is_plain(span)) mc_store(&proxy->limit, 0);
}

/* The place goes to a span once so many slots of it were freed with none of a third in between, and none of
 * the one that has it. */
static int may_take(struct mc_proxy_place *place, struct mc_span *proxy, const struct mc_span *span)
{
    _Static_assert(MC_PROXY_WANTED < sizeof(*span),
                   "what is below the alignment of structs counts");
    uint64_t wanted = place->wanted_by + 1;
    int begins = (wanted & -sizeof(*span)) != (uint64_t)span;
    int enough = !begins && wanted % sizeof(*span) >= MC_PROXY_WANTED;
    if (enough && (!proxy->free || is_idle(proxy))) return 1;
    if (begins) proxy->seen = (uint32_t)proxy->used;
    place->wanted_by = begins || enough ? (uint64_t)span + 1 : wanted;
    return 0;
}

__attribute__((noinline)) int mc_proxy_push(struct mc_thread *self, struct mc_span *list,
                                            const struct mc_span *span, struct mc_slot *slot)
{
    struct mc_cache *cache = cache_of(self);
    unsigned number = mc_proxy_number(span);
    struct mc_proxy_place *place = &cache->places[number];
    int is_its = place->stands_for == (uint64_t)span;
    if (list->slot_count < MC_PROXY_SLOTS) return 0;
    struct mc_span *proxy = &cache->proxies[number];
    if (!is_its && !may_take(place, proxy, span)) return 0;
    if (!is_its && !list->fresh) retire(cache, list);
    if (!is_its && proxy->free) {
        unlink_from(&cache->lists[proxy->class_index], proxy);
        pass_on(cache, proxy, take_all(proxy));
    }
    if (!proxy->free) { /* a span is another one where the struct was used again */
        mc_store(&place->stands_for, (uint64_t)span);
        stand_for(proxy, list, span);
        take_from_list(proxy, list, span);
    }
    add(proxy, slot);
    serve(proxy, span);
    if (mc_load(&proxy->limit)) mc_own_map_set(self, (uint64_t)slot, proxy);
    if (!proxy->used) mc_proxy_full(self, proxy);
    return 1;
}

void mc_proxies_stop(const struct mc_span *span)
{
    /* A full barrier: pairs with serve(). */
    if (likely(!__atomic_fetch_add(&are_there, 0, __ATOMIC_SEQ_CST))) return;
    struct mc_thread *thread = mc_thread_first();
    for (; thread; thread = mc_thread_next(thread)) {
        struct mc_cache *cache = cache_of(thread);
        unsigned number = mc_proxy_number(span);
        if (cache && mc_load(&cache->places[number].stands_for) == (uint64_t)span)
            mc_store(&cache->proxies[number].limit, 0);
    }
}

/* -- checks -------------------------------------------------------------------------------- */

static void check(const struct mc_span *proxy, const struct mc_span *span)
{
    uint32_t count = 0;
    mc_assert(proxy->free || !proxy->limit);
    for (uint64_t at = proxy->free; at; at = (uint64_t)slot_at(at)->next) {
        mc_assert(mc_page_map_find((void *)at) == span && slot_at(at)->mark == proxy->mark);
        mc_assert(slot_at(at)->next || proxy->last == at);
        count++;
    }
    mc_assert(count == mc_proxy_count(proxy));
    if (!count) return;
    mc_assert(span->state == MC_SPAN_CLASS && span->class_index == proxy->class_index);
    mc_assert(span->base == proxy->base && span->reciprocal == proxy->reciprocal);
    mc_assert(span->mark == proxy->mark);
    mc_assert(!proxy->limit ||
              (proxy->limit <= mc_limit_of(span->fresh, mc_class_slot_size(span->class_index)) &&
               !span->purged && !(span->flags & MC_SPAN_TAGGED)));
}

void mc_proxy_check(const struct mc_cache *cache)
{
    const struct mc_span *proxies = cache->proxies;
    unsigned listed = 0, there = 0;
    for (unsigned i = 0; i < MC_CACHE_CLASSES; i++) {
        const struct mc_span *proxy = (const struct mc_span *)cache->lists[i].next;
        for (; proxy; proxy = (const struct mc_span *)proxy->next) {
            mc_assert(proxy->class_index == i && proxy->free && ++listed <= MC_PROXIES);
        }
    }
    for (unsigned i = 0; i < MC_PROXIES; i++) {
        if (proxies[i].state != MC_SPAN_PROXY) continue;
        check(&proxies[i], (const struct mc_span *)cache->places[i].stands_for);
        there += proxies[i].free != 0;
    }
    mc_assert(there == listed);
}
