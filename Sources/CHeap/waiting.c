/* SPDX-License-Identifier: MIT */
/* See waiting.h. */
#include "waiting.h"

#include "limits.h"
#include "span.h"
#include "thread.h"

/* The notices are the owner's to take, and then lead elsewhere, perhaps to those of another thread: each span is
 * asked for itself. */
static __attribute__((noinline)) uint64_t give_back_of(const struct mc_thread *thread,
                                                       uint64_t most)
{
    uint64_t notice = mc_load_acquire(&thread->notified), bytes = 0;
    for (unsigned i = 0; i < MC_WAITING_SPANS && bytes < most; i++) {
        struct mc_span *span = (struct mc_span *)(notice & ((1ull << 48) - 1));
        if (!span) break;
        notice = mc_load_acquire(&span->notify_next);
        bytes += mc_span_give_back_whole(span);
    }
    return bytes;
}

void mc_waiting_give_back(int all)
{
    uint64_t left = all ? UINT64_MAX : MC_WAITING_BYTES;
    struct mc_thread *thread = mc_thread_first();
    for (; thread && left; thread = mc_thread_next(thread)) {
        uint32_t looks = mc_load(&thread->looks);
        int waits = all || mc_load(&thread->looked) == looks;
        mc_store(&thread->looked, looks);
        if (likely(!waits) || likely(!mc_load(&thread->notified))) continue;
        uint64_t bytes = give_back_of(thread, left);
        left -= bytes < left ? bytes : left;
    }
}
