/* SPDX-License-Identifier: MIT */
/* See mappings.h. */
#include "mappings.h"

#include <linux/futex.h>
#include <string.h>

#include "births.h"
#include "calls.h"
#include "check.h"
#include "own.h"
#include "shard.h"
#include "syscall.h"
#include "trace.h"

/* More than the kernel's usual limit of them (vm.max_map_count), and what a handler can leave. */
enum { MAPPINGS_MAX = 1 << 16, LEFT_MAX = 32 };

struct mapping {
    uint64_t start, end, tag;
};
static struct mapping *mappings; /* [lock] sorted, disjoint; made for the first */
uint64_t mc_mappings_count;      /* [lock] read by anybody: 0 means that there is nothing to do */
static uint32_t lock;            /* [shared] 0: free, 1: taken, 2: and somebody waits */
static __thread int holding;     /* this thread has it */
static uint64_t left_count;      /* [shared] ranges in `left`, or more than fit */
static struct {
    uint64_t start, size; /* size is stored last; 0: not there yet */
} left[LEFT_MAX];         /* [shared] */

static long futex(int operation, uint32_t value)
{
    if (!mc_call_allowed(MC_CALL_FUTEX)) return 0;
    return MC_SYSCALL_4(SYS_futex, &lock, operation | FUTEX_PRIVATE_FLAG, value, 0);
}

int mc_mappings_lock(void)
{
    uint32_t seen = 0;
    if (holding) return 0;
    if (!mc_swap_if(&lock, &seen, 1)) {
        while (__atomic_exchange_n(&lock, 2, __ATOMIC_ACQUIRE))
            futex(FUTEX_WAIT, 2);
    }
    holding = 1;
    return 1;
}

/* The first mapping that ends behind `address`. */
static uint64_t find(uint64_t address)
{
    uint64_t low = 0, high = mc_load(&mc_mappings_count);
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (mappings[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int make_room(uint64_t at)
{
    uint64_t count = mc_load(&mc_mappings_count);
    if (!mappings) {
        mappings = mc_own_map(MAPPINGS_MAX * sizeof(struct mapping));
        if (!mappings) return 0;
    }
    if (count == MAPPINGS_MAX) return 0;
    memmove(&mappings[at + 1], &mappings[at], (count - at) * sizeof(struct mapping));
    mc_store(&mc_mappings_count, count + 1);
    return 1;
}

static void close_gap(uint64_t at, uint64_t end)
{
    uint64_t count = mc_load(&mc_mappings_count);
    memmove(&mappings[at], &mappings[end], (count - end) * sizeof(struct mapping));
    mc_store(&mc_mappings_count, count - (end - at));
}

static void count_in(uint64_t tag, uint64_t count, uint64_t size)
{
    mc_counters_in(mc_shard_own(), mc_tag_stack(tag), (struct mc_amount){count, size, size});
}

static void count_out(uint64_t tag, uint64_t count, uint64_t size)
{
    if (!mc_trace_has_rows()) return;
    struct mc_life life = count ? mc_births_life(tag) : (struct mc_life){0};
    mc_counters_out(mc_shard_own(), mc_tag_stack(tag), (struct mc_amount){count, size, size}, life);
}

/* The range lies inside mapping `at`, with some of it on both sides. */
static void split(uint64_t at, uint64_t start, uint64_t end)
{
    struct mapping whole = mappings[at];
    if (make_room(at + 1)) {
        mappings[at + 1] = (struct mapping){end, whole.end, whole.tag};
        count_in(whole.tag, 1, 0);
        count_out(whole.tag, 0, end - start);
    } else {
        count_out(whole.tag, 0, whole.end - start);
        mc_add(&mc_own_region.missed_maps, 1);
    }
    mappings[at].end = start;
}

void mc_mappings_remove(uint64_t start, uint64_t size)
{
    uint64_t end = start + size, at = find(start);
    if (end < start || !mappings) return;
    uint64_t first = at; /* of those that go */
    if (at < mc_mappings_count && mappings[at].start < start) {
        if (mappings[at].end > end) {
            split(at, start, end);
            return;
        }
        count_out(mappings[at].tag, 0, mappings[at].end - start);
        mappings[at].end = start;
        first = ++at;
    }
    for (; at < mc_mappings_count && mappings[at].end <= end; at++)
        count_out(mappings[at].tag, 1, mappings[at].end - mappings[at].start);
    if (at < mc_mappings_count && mappings[at].start < end) {
        count_out(mappings[at].tag, 0, end - mappings[at].start);
        mappings[at].start = end;
    }
    if (at > first) close_gap(first, at);
}

void mc_mappings_insert(uint64_t start, uint64_t size, uint64_t tag)
{
    mc_mappings_remove(start, size); /* gone by ways that are not seen here */
    uint64_t at = find(start);
    if (!make_room(at)) {
        mc_add(&mc_own_region.missed_maps, 1);
        return;
    }
    mappings[at] = (struct mapping){start, start + size, tag};
    count_in(tag, 1, size);
}

void mc_mappings_leave(uint64_t start, uint64_t size)
{
    uint64_t place = mc_add(&left_count, 1);
    if (place >= LEFT_MAX) {
        mc_add(&mc_own_region.missed_maps, 1);
        return;
    }
    mc_store(&left[place].start, start);
    mc_store_release(&left[place].size, size);
}

/* Handlers run to their end before their thread goes on, so what is on the list is whole. */
static void see_to_left(void)
{
    uint64_t count = mc_load(&left_count);
    for (uint64_t i = 0; i < count && i < LEFT_MAX; i++) {
        mc_mappings_remove(mc_load(&left[i].start), mc_load(&left[i].size));
    }
    mc_store(&left_count, 0);
}

void mc_mappings_unlock(void)
{
    while (unlikely(mc_load(&left_count)))
        see_to_left();
    holding = 0;
    if (__atomic_exchange_n(&lock, 0, __ATOMIC_RELEASE) == 2) futex(FUTEX_WAKE, 1);
}

void mc_mappings_after_fork(int has_rows)
{
    if (holding) return; /* forked in a handler that interrupted a change: it goes on */
    if (mc_load(&lock) || !has_rows) mc_store(&mc_mappings_count, 0);
    mc_store(&left_count, 0);
    mc_store_release(&lock, 0);
    for (uint64_t i = 0; i < mc_mappings_count; i++) {
        const struct mapping *mapping = &mappings[i];
        if (mc_tag_stack(mapping->tag) < mc_own_region.areas[MC_AREA_STACKS].count)
            count_in(mapping->tag, 1, mapping->end - mapping->start);
    }
}

void mc_mappings_check(void)
{
    for (uint64_t i = 0; i < mc_mappings_count; i++) {
        mc_assert(mappings[i].start < mappings[i].end && mappings[i].tag);
        mc_assert(i == 0 || mappings[i - 1].end <= mappings[i].start);
    }
}
