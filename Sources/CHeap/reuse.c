/* SPDX-License-Identifier: MIT */
/* See reuse.h. */
#include "reuse.h"

#include "held.h"
#include "pagemap.h"

/* Each slot goes to the list of its span. Returns how many bytes of spans are empty now. */
static uint64_t slots_go_back(struct mc_thread *thread, uint64_t slots)
{
    uint64_t bytes = 0;
    while (slots) {
        struct mc_slot *slot = (struct mc_slot *)slots;
        struct mc_span *span = mc_page_map_find(slot);
        slots = (uint64_t)slot->next;
        mc_store(&slot->next, (struct mc_slot *)span->free);
        mc_store(&span->free, (uint64_t)slot);
        mc_step(&span->used, -1);
        bytes += mc_held_slot_freed(thread, span);
    }
    return bytes;
}

/* All slots but the `keep` that came last. */
static uint64_t take(struct mc_serving *serving, uint32_t keep)
{
    uint64_t *link = &serving->reuse.free, slots;
    uint32_t kept = 0;
    for (; kept < keep && *link; kept++)
        link = (uint64_t *)&((struct mc_slot *)*link)->next;
    slots = *link;
    mc_store(link, 0);
    mc_store(&serving->reuse.used, (int32_t)(mc_reuse_room_of(serving) - kept));
    return slots;
}

uint64_t mc_reuse_overflow(struct mc_thread *self, struct mc_serving *serving)
{
    return slots_go_back(self, take(serving, mc_reuse_room_of(serving) / 2));
}

void mc_reuse_return(struct mc_thread *thread, struct mc_serving *serving)
{
    if (mc_reuse_is_served(serving->reuse) && serving->free) {
        uint64_t slots = serving->free;
        mc_store(&serving->counts, serving->counts + mc_counts_listed(serving->counts));
        mc_store(&serving->free, 0);
        slots_go_back(thread, slots);
    }
    if (serving->reuse.free) slots_go_back(thread, take(serving, 0));
}
