/* SPDX-License-Identifier: MIT */
/* See own.h. */
#include "own.h"

#include "bits.h"
#include "os.h"
#include "ranges.h"
#include "region.h"

uint64_t mc_own_lists;

static void *map(size_t size)
{
    void *fresh;
    if (mc_os_map(size, &fresh)) return 0;
    mc_add(&mc_own_region.own_bytes, size);
    return fresh;
}

/* A page, which is the first of its own ranges. */
static struct mc_meta_list *make_list(void)
{
    struct mc_meta_list *list = map(MC_PAGE);
    if (!list) return 0;
    list->ranges[0] = (struct mc_meta_range){(uint64_t)list, MC_PAGE};
    list->count = 1;
    return list;
}

void *mc_own_map(size_t size)
{
    void *fresh = map(size);
    if (fresh) mc_ranges_note(&mc_own_lists, fresh, size, make_list);
    return fresh;
}

/* 0 if the kernel would not: it counts as ours still. */
static int release(void *start, size_t size)
{
    mc_ranges_forget(&mc_own_lists, start);
    if (mc_os_release(start, size)) return 0;
    mc_sub(&mc_own_region.own_bytes, size);
    return 1;
}

void mc_own_release(void *start, size_t size)
{
    release(start, size);
}

void *mc_own_map_trail(size_t size)
{
    void *fresh = mc_own_map(size);
    if (fresh) mc_add(&mc_own_region.trail_bytes, size);
    return fresh;
}

void mc_own_release_trail(void *start, size_t size)
{
    if (release(start, size)) mc_sub(&mc_own_region.trail_bytes, size);
}

void mc_own_purge(void *start, size_t size)
{
    if (mc_os_purge(start, size)) return;
    mc_ranges_forget(&mc_own_lists, start);
    mc_sub(&mc_own_region.own_bytes, size);
}
