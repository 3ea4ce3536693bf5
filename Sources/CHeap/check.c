/* SPDX-License-Identifier: MIT */
/* Walks everything and asserts every invariant: for tests, after each batch of operations. */
#include "arena.h"
#include "held.h"
#include "lend.h"
#include "meta.h"
#include "span.h"
#include "structs.h"
#include "thread.h"

void mc_heap_check(void)
{
    mc_meta_check();
    mc_arena_check();
    mc_spans_check();
    mc_structs_check();
    for (struct mc_thread *thread = mc_thread_first(); thread; thread = mc_thread_next(thread))
        mc_thread_check(thread);
    if (mc_self != &mc_thread_none) mc_lend_check(mc_self);
}
