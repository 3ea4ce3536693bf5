/* SPDX-License-Identifier: MIT */
/* Structs: where struct mc_span come from.
 *
 * They are numbered in the order of their first use, in pools of MC_SPAN_POOL_COUNT; the address of one
 * is never unmapped, so a pointer to a span may be followed at any time. Free ones wait on a stack. A heap
 * of many small spans has two mebibytes of them for each gibibyte, so once much was purged the pages of
 * which every struct is free go back to the kernel (mc_structs_trim): these structs read as zero, which is
 * UNUSED, are on no stack, and a bit in a table says so.
 *
 *     take: the thread's stack, else all structs of an empty page, else a page of the next numbers
 *
 * There are eight stacks, by the thread's number, and a page's structs go to one: what two threads write
 * to all the time shall not lie side by side (two threads' frees are a tenth slower where it does, though
 * no line is shared). Where free ones are many, a thread takes another's.
 *
 * Any thread, no locks. A child forked while another thread trims has what was on the stack no more.
 * Invariant, asserted by mc_structs_check(): no struct of an empty page is in use. */
#ifndef MC_STRUCTS_H
#define MC_STRUCTS_H

#include "bits.h"
#include "limits.h"
#include "memctl_heap.h"
#include "root.h"

/* The struct of this number, which is below the root's span_count. It may be in no use. */
static inline struct mc_span *mc_span_struct_at(uint64_t number)
{
    uint64_t pool = mc_load_acquire(&mc_span_pools[number / MC_SPAN_POOL_COUNT].start);
    return (struct mc_span *)pool + number % MC_SPAN_POOL_COUNT;
}

/* NULL when memory is short. Its fields are of its last use, or zero. */
struct mc_span *mc_span_struct_take(void);
void mc_span_struct_give(struct mc_span *span);

/* Of a struct in no use: allocations are those of this class from now on; `used` becomes 0. */
void mc_span_count_for(struct mc_span *span, unsigned class_index);

/* An allocation more; or the last was none. Whoever has the struct to itself. */
void mc_span_count_taken(struct mc_span *span);
void mc_span_count_returned(struct mc_span *span);

/* Gives back pages whose structs are all free. At a cost for each free struct: see MC_TRIM_PURGED. */
void mc_structs_trim(void);

void mc_structs_check(void);

#endif
