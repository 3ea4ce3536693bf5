/* SPDX-License-Identifier: MIT */
/* Objects of a span of one thread's, and the proxy that another has for it. */
#ifndef PROXIES_H
#define PROXIES_H

#include <pthread.h>

#include "cache.h"
#include "heap.h"
#include "limits.h"
#include "own_map.h"
#include "proxy.h"
#include "test.h"
#include "thread.h"

enum { SIZE = 64, SPAN = MC_SLICE / SIZE };
static void *objects[SPAN];
static pthread_barrier_t turns; /* of the thread that made them and the one that frees them */

static inline void fill(size_t size, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        REQUIRE((objects[i] = mc_alloc_owned(size, MC_QUANTUM, 0)));
}

static inline struct mc_cache *cache(void)
{
    return (struct mc_cache *)mc_self->cache;
}

static inline struct mc_span *proxy_of(const void *object)
{
    return &cache()->proxies[mc_proxy_number(mc_span_of(object))];
}

/* Whether its free would take the short path. */
static inline int is_short(void *object)
{
    struct mc_span *found = mc_own_map_find(mc_self, (uint64_t)object);
    return found->state == MC_SPAN_PROXY && mc_starts_slot(found, object);
}

static inline void nothing_left(void)
{
    struct mc_heap_totals totals;
    mc_heap_check();
    mc_heap_trim();
    mc_heap_check();
    mc_heap_totals(&totals);
    REQUIRE_EQUAL(totals.used, 0);
}

#endif
