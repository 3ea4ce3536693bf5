/* SPDX-License-Identifier: MIT */
/* The region as the traced process holds it: the control page (mc_region), and, once tracing was
 * on, the areas behind it.
 *
 * The file has its full size from the start and is sparse. The descriptor is closed, so later the
 * whole file is mapped by duplicating the control page's mapping (mremap with an old size of 0):
 * that works after chroot(2), setuid(2), and with no descriptors left. A page is populated before
 * it is first written (MADV_POPULATE_WRITE, which reports a full file system as an error where a
 * plain store would be a SIGBUS).
 *
 * Areas are made by one thread, once a region. After that records are appended by any thread. */
#ifndef MC_REGION_FILE_H
#define MC_REGION_FILE_H

#include "bits.h"
#include "trace.h"

/* The areas' mapping, or NULL. Read-mostly; changes only when a forked child makes its own. */
extern char *mc_areas;

/* Runs of counters that there is room for, MC_REGION_SHARDS at most. [const] from one mc_areas_make() to the next */
extern uint32_t mc_area_runs;

/* Record `index` of an area. No check: index < capacity. */
static inline void *mc_area_record(unsigned area, uint64_t index)
{
    const struct mc_region_area *place = &mc_own_region.areas[area];
    return mc_areas + place->offset + index * place->record_size;
}

/* Makes the bytes at `record` writable without risk; 0 if the file system is full. */
int mc_area_ensure(const void *record, uint64_t size);

/* A bit a page of the areas: populated. [shared] */
enum { MC_AREA_PAGES_MAX = 1 << 20 };
extern uint64_t mc_area_populated[MC_AREA_PAGES_MAX / 64];

/* 1 if the page that `record` begins in is writable without risk. */
static inline int mc_area_is_there(const void *record)
{
    uint64_t page = (uint64_t)((const char *)record - mc_areas) / MC_PAGE;
    return mc_load(&mc_area_populated[page / 64]) >> page % 64 & 1;
}

/* A fresh record, or UINT64_MAX if the area is full. The caller fills it and then calls
 * mc_area_publish(). Records may be published out of order by a moment. */
uint64_t mc_area_append(unsigned area, uint64_t count);
void mc_area_publish(unsigned area, uint64_t end);

/* Our own code's range. */
static inline int mc_region_is_own(uint64_t pc)
{
    return pc - mc_own_region.library_start <
           mc_own_region.library_end - mc_own_region.library_start;
}

uint64_t mc_boottime_ns(void);

/* Maps the areas of a region that has none yet, as large as the limit of the address space admits. Returns 0 or
 * an errno value. */
int mc_areas_make(void);

#endif
