/* SPDX-License-Identifier: MIT */
/* Own memory: what the tracing keeps outside the region, as private pages: its index, the trails of
 * threads, the table of mappings. Counted in mc_region.own_bytes and listed, so that memctl tells it
 * from what the program maps. Any thread; no locks. */
#ifndef MC_OWN_H
#define MC_OWN_H

#include <stddef.h>
#include <stdint.h>

/* Whole pages that read as zero, or NULL; and back. */
void *mc_own_map(size_t size);
void mc_own_release(void *start, size_t size);

/* The same, of a thread's trail: counted in mc_region.trail_bytes too. */
void *mc_own_map_trail(size_t size);
void mc_own_release_trail(void *start, size_t size);

/* Their pages go back, and are no longer counted or listed: address space without memory, which reads as
 * zero and, by somebody late, may be written to still. */
void mc_own_purge(void *start, size_t size);

/* [shared] Address of the newest struct mc_meta_list, or 0; mc_region.own_lists leads here. */
extern uint64_t mc_own_lists;

#endif
