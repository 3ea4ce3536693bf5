/* SPDX-License-Identifier: MIT */
/* Proxy: what stands for another thread's span where a thread frees slots of that.
 *
 * A free of a slot of the thread's own is short, since the own map leads to the span. A proxy is a struct
 * mc_span that knows where the slots of another's span are and what marks them, and has a list of its own:
 * the own map leads to it as well, and the short path of free knows no difference. It counts where two
 * threads exchange objects: a processor waits for as many objects of the other at a time as the instructions
 * it looks ahead reach to, so each instruction between two frees costs time.
 *
 * While a proxy has a slot of its span, that span can't be unmade, since the slot counts as used there; so
 * a proxy serves frees only while it has one. The slot that was freed last stays therefore when the
 * others go: to the list of the cache (cache.h), from which the thread's requests are served, or to their
 * owner, once the proxy has as many as it may have, or where the list is homing. It goes with them when nothing
 * was freed there since the proxies of the class were last looked at: a thread that is done with a span is not to
 * hold it.
 *
 * Two things can happen to a span with live slots that frees have to know: it comes to have tags, or purged
 * parts. Whoever makes that so calls mc_proxies_stop(), which ends the serving of all its proxies; there is
 * one place a thread where that of a span can be. Each side stores first and then looks at what the other
 * stores, with a full barrier in between, so one of them sees it (Dekker's way). Frees of slots of a stopped
 * proxy's span take the longer path, as if there were none.
 *
 * Only the thread itself touches its proxies otherwise, or whoever seized its struct.
 *
 * Of the fields of struct mc_span, `used` is how many more slots a proxy may take, and `slot_count` how many
 * it may have; see also there. Invariants, asserted by mc_proxy_check():
 *   1. `limit` is not 0 only while it has a slot
 *   2. it has base, size and mark of the span that its slots lie in, and no larger limit
 *   3. while it has a slot it is on the list of proxies that begins at `next` of its class' list in the cache;
 *      and on no other, and else on none */
#ifndef MC_PROXY_H
#define MC_PROXY_H

#include "heap.h"

/* Puts a slot in the thread's proxy for `span`, another thread's; 0, and nothing was done: it has none. The
 * slot is known to be live and without a tag, and the span to have no purged parts. `list` is the list of the
 * thread's cache for its class. A span gets a proxy when several of its slots are freed in a row. */
int mc_proxy_push(struct mc_thread *self, struct mc_span *list, const struct mc_span *span,
                  struct mc_slot *slot);

/* To be called when a free has made its `used` 0. */
void mc_proxy_full(struct mc_thread *self, struct mc_span *proxy);

/* Moves slots of proxies of the list's class there, until it has as many as a list may have. */
void mc_proxy_gather(struct mc_span *list);

/* Hands those slots to their owners. Proxies that nothing was freed into since the last time, here or there, stop
 * serving. */
void mc_proxy_send_home(struct mc_cache *cache, struct mc_span *list);

/* Hands all slots of the class' proxies to their owners; none of them serves any more. */
void mc_proxy_flush(struct mc_cache *cache, unsigned class_index);

/* To be called when the span has got its first tag or another purged part, before anybody relies on it. Owner
 * of the span. */
void mc_proxies_stop(const struct mc_span *span);

/* The one place of a thread's proxies that can be the span's: structs of one thread's spans follow each other,
 * and the pages of several must not collide. */
static inline unsigned mc_proxy_number(const struct mc_span *span)
{
    enum { BITS = 7 };
    _Static_assert(MC_PROXIES == 1 << BITS, "a place for each number");
    return (uint32_t)((uint64_t)span / sizeof(*span)) * 0x9e3779b1u >> (32 - BITS);
}

/* Slots that it has. Any thread. */
static inline uint32_t mc_proxy_count(const struct mc_span *proxy)
{
    uint32_t more = (uint32_t)mc_load(&proxy->used), slots = mc_load(&proxy->slot_count);
    return more < slots ? slots - more : 0;
}

void mc_proxy_check(const struct mc_cache *cache);

#endif
