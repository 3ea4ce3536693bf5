/* SPDX-License-Identifier: MIT */
/* Sums over all spans, for mallinfo and its kin, and the walk over all tags. Taken while other
 * threads go on: each number is right at some moment of the walk. */
#include "arena.h"
#include "cache.h"
#include "check.h"
#include "growing.h"
#include "pagemap.h"
#include "proxy.h"
#include "root.h"
#include "serving.h"
#include "span.h"
#include "structs.h"
#include "thread.h"

static void each_span(void (*visit)(struct mc_span *span, void *context), void *context)
{
    uint64_t count = mc_load_acquire(&mc_root()->span_count);
    for (uint64_t i = 0; i < count; i++) {
        struct mc_span *span = mc_span_struct_at(i);
        uint8_t state = mc_load_acquire(&span->state);
        if (state != MC_SPAN_UNUSED && state != MC_SPAN_WAITING) visit(span, context);
    }
}

static void add_span(struct mc_span *span, void *context)
{
    struct mc_heap_totals *totals = context;
    uint64_t live = mc_load(&span->used);
    if (span->state == MC_SPAN_CLASS) {
        uint64_t held =
            mc_remote_count(mc_load(&span->remote)) + !!(mc_load(&span->flags) & MC_SPAN_CURRENT);
        live = live > held ? live - held : 0;
        totals->cached += (span->slot_count - live) * mc_slot_size(span);
    }
    totals->used_slots += live;
    totals->used += live * mc_slot_size(span);
}

/* What threads hold of each other's slots, or are about to serve, was counted as used. */
static void move(uint64_t slots, unsigned class_index, struct mc_heap_totals *totals)
{
    uint64_t bytes = slots * mc_class_slot_size(class_index);
    if (slots > totals->used_slots || bytes > totals->used) return; /* changes underfoot */
    totals->used_slots -= slots;
    totals->used -= bytes;
    totals->cached += bytes;
}

static void move_cached(const struct mc_thread *thread, struct mc_heap_totals *totals)
{
    const struct mc_cache *cache = (const struct mc_cache *)mc_load_acquire(&thread->cache);
    for (unsigned i = 0; i < MC_CACHE_CLASSES; i++) {
        if (cache) move(mc_cache_count(&cache->lists[i]), i, totals);
        if (i >= MC_DIRECT_CLASSES) continue;
        const struct mc_serving *serving = &thread->serving[i];
        move(mc_serving_count(serving) + mc_reuse_waiting(serving), i, totals);
    }
    for (unsigned i = 0; cache && i < MC_PROXIES; i++) {
        const struct mc_span *proxy = &cache->proxies[i];
        if (mc_load(&proxy->state) == MC_SPAN_PROXY)
            move(mc_proxy_count(proxy), mc_load(&proxy->class_index), totals);
    }
}

void mc_heap_totals(struct mc_heap_totals *totals)
{
    struct mc_heap_root *root = mc_root();
    *totals = (struct mc_heap_totals){.huge_bytes = mc_load(&root->huge_bytes),
                                      .huge_count = mc_load(&root->huge_count),
                                      .metadata = mc_load(&root->metadata_bytes)};
    each_span(add_span, totals);
    for (struct mc_thread *thread = mc_thread_first(); thread; thread = mc_thread_next(thread))
        move_cached(thread, totals);
    totals->reserved = totals->huge_bytes;
    for (uint64_t i = 0; i < MC_ARENAS_MAX && mc_load_acquire(&mc_arenas[i]); i++) {
        const struct mc_arena *arena = (const struct mc_arena *)mc_arenas[i];
        totals->reserved += mc_load(&arena->slice_count) * MC_SLICE;
        totals->free_slices += mc_load(&arena->free_slices) * MC_SLICE;
    }
}

struct tag_walk {
    void (*visit)(uint64_t tag, uint64_t usable, uint64_t requested, void *context);
    void *context;
};

static void visit_tags(struct mc_span *span, void *context)
{
    struct tag_walk *walk = context;
    if (!(mc_load(&span->flags) & MC_SPAN_TAGGED)) return;
    if (span->state != MC_SPAN_CLASS) {
        if (span->tag) walk->visit(span->tag, mc_slot_size(span), span->requested, walk->context);
        return;
    }
    for (uint32_t i = 0; i < span->fresh; i++) {
        const uint64_t *place = mc_tag_place(span, i);
        if (place && *place)
            walk->visit(*place, mc_slot_size(span), MC_REQUESTED_UNKNOWN, walk->context);
    }
}

void mc_tags_visit(void (*visit)(uint64_t tag, uint64_t usable, uint64_t requested, void *context),
                   void *context)
{
    struct tag_walk walk = {visit, context};
    each_span(visit_tags, &walk);
}

static void check_span(struct mc_span *span, void *context)
{
    (void)context;
    if (span->state == MC_SPAN_CLASS) mc_span_check(span);
}

struct held {
    const struct mc_thread *thread;
    uint64_t bytes;
    unsigned growing;
};

static void add_held(struct mc_span *span, void *context)
{
    struct held *held = context;
    if (span->state == MC_SPAN_CLASS && span->owner == (uint64_t)held->thread)
        held->bytes += mc_class_span_size(span);
    if (span->state == MC_SPAN_LARGE && span->maker == (uint64_t)held->thread)
        held->growing += (span->flags & MC_SPAN_GROWING) != 0;
}

void mc_spans_check(void)
{
    each_span(check_span, 0);
    for (struct mc_thread *thread = mc_thread_first(); thread; thread = mc_thread_next(thread)) {
        struct held held = {thread, 0, 0};
        each_span(add_held, &held);
        mc_assert(held.bytes == thread->held && held.growing == mc_growing_count(thread));
    }
}
