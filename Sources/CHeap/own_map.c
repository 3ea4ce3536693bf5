/* SPDX-License-Identifier: MIT */
/* See own_map.h. */
#include "own_map.h"

#include "check.h"

void mc_own_map_forget(struct mc_thread *thread, const struct mc_span *span)
{
    struct mc_owner *owner = (struct mc_owner *)thread;
    uint64_t entry = (uint64_t)span - (uint64_t)thread;
    for (uint64_t offset = 0; offset < mc_class_span_size(span); offset += MC_SLICE) {
        uint64_t *place = mc_own_map_place(owner, span->base + offset);
        if (*place == entry) *place = 0;
    }
}

void mc_own_map_check(struct mc_thread *thread)
{
    struct mc_owner *owner = (struct mc_owner *)thread;
    mc_assert(!thread->nothing.limit);
    for (unsigned i = 0; i < MC_OWN_MAP_COUNT; i++) {
        if (!owner->spans[i]) continue;
        const struct mc_span *span = (struct mc_span *)((uint64_t)thread + owner->spans[i]);
        uint64_t number = ((uint64_t)span - thread->cache - MC_CACHE_PROXIES_AT) / sizeof(*span);
        int is_proxy = span->state == MC_SPAN_PROXY && number < MC_PROXIES;
        mc_assert(is_proxy || (span->state == MC_SPAN_CLASS && span->owner == (uint64_t)thread));
    }
}
