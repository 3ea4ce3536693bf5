/* SPDX-License-Identifier: MIT */
/* See proxy.h. */
#include "proxy.h"

#include "check.h"
#include "limits.h"
#include "pagemap.h"
#include "span.h"
#include "thread.h"

static uint32_t are_there; /* [shared] 1: some thread has had one */

static struct mc_span *lists_of(const struct mc_thread *thread)
{
    return (struct mc_span *)mc_load_acquire(&thread->cache); /* pairs with make() in cache.c */
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
    mc_store(&proxy->counts, proxy->slot_count - 1ull);
    return chain;
}

static struct chain take_all(struct mc_span *proxy)
{
    struct chain chain = {slot_at(proxy->free), slot_at(proxy->last), mc_proxy_count(proxy)};
    mc_store(&proxy->limit, 0);
    mc_store(&proxy->free, 0);
    mc_store(&proxy->counts, proxy->slot_count);
    return chain;
}

static void put(struct mc_span *list, struct chain chain)
{
    if (!chain.first) return;
    mc_store(&chain.last->next, slot_at(list->free));
    mc_store(&list->free, (uint64_t)chain.first);
    mc_store(&list->counts, list->counts - chain.count);
}

void mc_proxy_gather(struct mc_span *list, int all)
{
    struct mc_span *proxy = (struct mc_span *)list->next;
    for (; proxy; proxy = (struct mc_span *)proxy->next)
        put(list, all ? take_all(proxy) : take(proxy));
}

void mc_proxy_full(struct mc_thread *self, struct mc_span *proxy)
{
    struct mc_span *list = lists_of(self) + proxy->class_index;
    struct chain chain = take(proxy);
    if (list->fresh && (uint32_t)-list->used + chain.count <= list->slot_count) {
        put(list, chain);
    } else if (chain.first) {
        mc_span_push_remotes((struct mc_span *)proxy->stands_for, chain.first, chain.last,
                             chain.count);
    }
}

/* -- slots come ---------------------------------------------------------------------------- */

static void unlink_from(struct mc_span *list, struct mc_span *proxy)
{
    uint64_t *link = &list->next;
    while (*link && *link != (uint64_t)proxy)
        link = &((struct mc_span *)*link)->next;
    if (*link) *link = proxy->next;
}

/* Makes an empty proxy one of the span. */
static void stand_for(struct mc_span *proxy, struct mc_span *list, const struct mc_span *span)
{
    uint32_t slots = list->fresh ? list->slot_count / 2u : list->slot_count;
    mc_store(&proxy->state, MC_SPAN_PROXY);
    proxy->base = span->base;
    proxy->reciprocal = span->reciprocal;
    proxy->mark = span->mark;
    mc_store(&proxy->class_index, span->class_index);
    proxy->slot_size = span->slot_size;
    mc_store(&proxy->slot_count, (uint16_t)slots);
    mc_store(&proxy->counts, slots);
    mc_store(&proxy->stands_for, (uint64_t)span);
    proxy->wanted_by = 0;
    proxy->next = list->next;
    list->next = (uint64_t)proxy;
}

static int is_plain(const struct mc_span *span)
{
    return !(__atomic_load_n(&span->flags, __ATOMIC_SEQ_CST) & MC_SPAN_TAGGED) &&
           !__atomic_load_n(&span->purged, __ATOMIC_SEQ_CST);
}

/* Frees of slots that are carved by now take the short path. */
static void serve(struct mc_span *proxy, const struct mc_span *span)
{
    uint64_t limit = mc_load(&span->fresh) * span->slot_size;
    if (mc_load(&proxy->limit) == limit || !is_plain(span)) return;
    mc_store(&are_there, 1);
    /* A full barrier: pairs with mc_proxies_stop(). */
    __atomic_exchange_n(&proxy->limit, limit, __ATOMIC_SEQ_CST);
    if (!is_plain(span)) mc_store(&proxy->limit, 0);
}

static void add(struct mc_span *proxy, struct mc_slot *slot)
{
    if (!proxy->free) proxy->last = (uint64_t)slot;
    mc_store(&slot->next, slot_at(proxy->free));
    mc_store_release(&slot->mark, proxy->mark);
    mc_store(&proxy->free, (uint64_t)slot);
    mc_store(&proxy->counts, proxy->counts - 1);
}

/* The place goes to a span once so many slots of it were freed with none of a third in between. */
static int may_take(struct mc_span *proxy, const struct mc_span *span)
{
    _Static_assert(MC_PROXY_WANTED < sizeof(*span),
                   "what is below the alignment of structs counts");
    uint64_t wanted = proxy->wanted_by + 1;
    if ((wanted & -sizeof(*span)) != (uint64_t)span) wanted = (uint64_t)span + 1;
    proxy->wanted_by = wanted;
    return wanted % sizeof(*span) == MC_PROXY_WANTED;
}

__attribute__((noinline)) int mc_proxy_push(struct mc_thread *self, struct mc_span *list,
                                            const struct mc_span *span, struct mc_slot *slot)
{
    struct mc_span *lists = list - list->class_index, *proxy = mc_proxy_place(lists, span);
    int is_its = proxy->stands_for == (uint64_t)span;
    if (list->slot_count < MC_PROXY_SLOTS) return 0;
    if (!is_its && !may_take(proxy, span)) return 0;
    if (!is_its || !proxy->free) { /* a span is another one where the struct was used again */
        struct mc_span *before = lists + proxy->class_index;
        put(before, take_all(proxy));
        unlink_from(before, proxy);
        stand_for(proxy, list, span);
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
        struct mc_span *lists = lists_of(thread);
        if (!lists) continue;
        struct mc_span *proxy = mc_proxy_place(lists, span);
        if (mc_load(&proxy->stands_for) == (uint64_t)span) mc_store(&proxy->limit, 0);
    }
}

/* -- checks -------------------------------------------------------------------------------- */

static void check(const struct mc_span *proxy)
{
    const struct mc_span *span = (const struct mc_span *)proxy->stands_for;
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
    mc_assert(span->mark == proxy->mark && span->slot_size == proxy->slot_size);
    mc_assert(!proxy->limit || (proxy->limit <= span->fresh * span->slot_size && !span->purged &&
                                !(span->flags & MC_SPAN_TAGGED)));
}

void mc_proxy_check(struct mc_span *lists)
{
    const struct mc_span *proxies = &lists[MC_CACHE_CLASSES];
    unsigned listed = 0, there = 0;
    for (unsigned i = 0; i < MC_CACHE_CLASSES; i++) {
        const struct mc_span *proxy = (const struct mc_span *)lists[i].next;
        for (; proxy; proxy = (const struct mc_span *)proxy->next) {
            mc_assert(proxy->class_index == i && proxy - proxies < MC_PROXIES);
            mc_assert(++listed <= MC_PROXIES);
        }
    }
    for (unsigned i = 0; i < MC_PROXIES; i++) {
        if (proxies[i].state != MC_SPAN_PROXY) continue;
        check(&proxies[i]);
        there++;
    }
    mc_assert(there == listed);
}
