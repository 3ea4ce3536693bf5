/* SPDX-License-Identifier: MIT */
/* What the heap calls back and preload/ would answer, for programs that link the heap alone. */
#include "hooks.h"

#include "heap.h"

void (*on_tagged_free)(void *object, size_t usable, size_t requested, uint64_t tag);
void (*on_fork)(void);

void mc_heap_on_tagged_free(void *object, size_t usable, size_t requested, uint64_t tag)
{
    if (on_tagged_free) on_tagged_free(object, usable, requested, tag);
}

void mc_heap_on_tagged_slot_free(const struct mc_span *span, uint64_t tag)
{
    mc_heap_on_tagged_free(0, mc_slot_size(span), MC_REQUESTED_UNKNOWN, tag);
}

void mc_heap_on_fork(void)
{
    if (on_fork) on_fork();
}
