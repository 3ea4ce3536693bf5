/* SPDX-License-Identifier: MIT */
/* See index.h. */
#include "index.h"

#include "own.h"

/* Fuller than that, runs of entries get longer than what is probed. */
enum { FULL_EIGHTHS = 5 };

enum { PROBES = 128, MOVED_AT_ONCE = MC_CACHE_LINE / sizeof(uint64_t) };

static uint64_t size_of(unsigned table)
{
    return 1ull << (MC_INDEX_FIRST_BITS + table);
}

static uint64_t bytes_of(unsigned table)
{
    return mc_round_up(size_of(table) * sizeof(uint64_t), MC_PAGE);
}

static uint64_t entry_for(uint64_t hash, uint32_t id)
{
    return hash >> MC_INDEX_ID_BITS << MC_INDEX_ID_BITS | id;
}

/* Makes the table if it is not there. */
static uint64_t *table_at(struct mc_index *index, unsigned number)
{
    uint64_t *table = mc_load_acquire(&index->tables[number]);
    if (likely(table)) return table;
    uint64_t bytes = bytes_of(number);
    void *fresh = mc_own_map(bytes);
    if (!fresh) return 0;
    if (mc_swap_if(&index->tables[number], &table, fresh)) return fresh;
    mc_own_release(fresh, bytes);
    return table;
}

/* Where an entry is looked for first: by the bits that it keeps, so that it alone tells where it goes in
 * the next table, which is nearly in the same order. */
static uint64_t place_of(uint64_t entry)
{
    return entry >> MC_INDEX_ID_BITS;
}

/* Of an id that was reset: may make room for the one that took its place. */
static int is_stale(const struct mc_index *index, uint64_t entry)
{
    return index->floor && (entry & ((1u << MC_INDEX_ID_BITS) - 1)) < mc_load(index->floor);
}

/* Returns 0 if the table is full around there. */
static int add_to(struct mc_index *index, unsigned number, uint64_t entry)
{
    uint64_t *table = table_at(index, number);
    uint64_t mask = size_of(number) - 1;
    if (!table) return 1;
    if (mc_load(&index->counts[number]) > mask / 8 * FULL_EIGHTHS && number + 1 < MC_INDEX_TABLES)
        return 0;
    for (unsigned probe = 0; probe < PROBES; probe++) {
        uint64_t *place = &table[(place_of(entry) + probe) & mask];
        uint64_t seen = mc_load(place);
        if (seen == entry) return 1;
        if (seen && (place_of(seen) != place_of(entry) || !is_stale(index, seen))) continue;
        uint64_t added = !seen;
        if (mc_swap_if(place, &seen, entry)) {
            mc_add(&index->counts[number], added);
            return 1;
        }
    }
    return 0;
}

/* In the newest table with room around there. */
static void insert(struct mc_index *index, uint64_t entry)
{
    uint64_t newest = mc_load(&index->newest);
    while (!add_to(index, (unsigned)newest, entry)) {
        if (newest + 1 == MC_INDEX_TABLES) return;
        if (mc_swap_if(&index->newest, &newest, newest + 1)) newest++;
    }
}

/* Takes a few entries of the oldest table along to the newest. Whoever moves the last ones retires the
 * table, whose pages go back; a child that was forked in the middle of some keeps it. What is added to a
 * table behind its movers is lost, and made anew, as when two threads add one thing; so is what somebody
 * looks up in a table that is retired meanwhile, and reads as empty. */
static void move_some(struct mc_index *index)
{
    uint64_t oldest = mc_load(&index->oldest);
    if (likely(oldest == mc_load(&index->newest))) return;
    uint64_t size = size_of((unsigned)oldest), from = mc_add(&index->begun[oldest], MOVED_AT_ONCE);
    uint64_t *table = mc_load_acquire(&index->tables[oldest]);
    if (from >= size) return;
    for (unsigned i = 0; table && i < MOVED_AT_ONCE; i++) {
        uint64_t entry = mc_load_acquire(&table[from + i]);
        if (entry) insert(index, entry);
    }
    /* Pairs with the load in mc_index_find(): who does not look there sees what was moved. */
    uint64_t moved = __atomic_add_fetch(&index->moved[oldest], MOVED_AT_ONCE, __ATOMIC_ACQ_REL);
    if (moved != size) return;
    mc_store_release(&index->oldest, oldest + 1);
    if (table) mc_own_purge(table, bytes_of((unsigned)oldest));
}

void mc_index_add(struct mc_index *index, uint64_t hash, uint32_t id)
{
    insert(index, entry_for(hash, id));
    move_some(index);
}

void mc_index_expect(const struct mc_index *index, uint64_t hash)
{
    unsigned newest = (unsigned)mc_load_acquire(&index->newest);
    const uint64_t *table = mc_load_acquire(&index->tables[newest]);
    if (table) __builtin_prefetch(&table[place_of(hash) & (size_of(newest) - 1)]);
}

uint32_t mc_index_find(struct mc_index *index, uint64_t hash,
                       int (*matches)(uint32_t id, const void *key), const void *key)
{
    unsigned oldest = (unsigned)mc_load_acquire(&index->oldest);
    unsigned newest = (unsigned)mc_load_acquire(&index->newest);
    for (unsigned number = newest + 1; number-- > oldest;) {
        const uint64_t *table = mc_load_acquire(&index->tables[number]);
        uint64_t mask = size_of(number) - 1, place = place_of(hash);
        for (unsigned probe = 0; table && probe < PROBES; probe++) {
            uint64_t entry = mc_load_acquire(&table[(place + probe) & mask]);
            if (!entry) break;
            uint32_t id = (uint32_t)(entry & ((1u << MC_INDEX_ID_BITS) - 1));
            if (place_of(entry) != place || !matches(id, key)) continue;
            if (number != newest) mc_index_add(index, hash, id);
            return id;
        }
    }
    return 0;
}
