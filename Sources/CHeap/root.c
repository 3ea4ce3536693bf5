/* SPDX-License-Identifier: MIT */
/* See root.h. Initialised data, so that it is whole before the first call and in any core file. */
#include "root.h"

#include "own_map.h"
#include "pagemap.h"
#include "thread.h"

MC_TABLE uint64_t mc_arenas[MC_ARENAS_MAX];
MC_TABLE struct mc_heap_pool mc_span_pools[MC_SPAN_POOLS_MAX];

static struct mc_meta_list first_list;

static const char version_text[] = "memctl 0.1.0";

/* Within a page, which the process touches as it starts: so that reading it never brings a page in. */
enum { ROOT_ALIGN = 2048 };
_Static_assert(sizeof(struct mc_heap_root) <= ROOT_ALIGN, "the root lies in one page");

__attribute__((visibility("default"), aligned(ROOT_ALIGN))) struct mc_heap_root memctl_heap_root = {
    .magic = MC_HEAP_MAGIC,
    .version = MC_HEAP_VERSION,
    .span_size = sizeof(struct mc_span),
    .thread_size = sizeof(struct mc_thread),
    .class_count = MC_CLASS_COUNT,
    .arenas = (uint64_t)mc_arenas,
    .pools = (uint64_t)mc_span_pools,
    .version_text = (uint64_t)version_text,
    .meta_lists = (uint64_t)&first_list,
    .page_map = (uint64_t)mc_page_map,
    .none_span = (uint64_t)&mc_span_none,
    .own_map = offsetof(struct mc_owner, spans),
    .own_map_count = MC_OWN_MAP_COUNT,
    .huge_pages = MC_HUGE_USUAL,
};
