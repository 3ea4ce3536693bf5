/* SPDX-License-Identifier: MIT */
/* See index.h. */
#include "index.h"

#include "own.h"

enum { PROBES = 32 };

static uint64_t size_of(unsigned table)
{
    return 1ull << (MC_INDEX_FIRST_BITS + table);
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
    uint64_t bytes = mc_round_up(size_of(number) * sizeof(uint64_t), MC_PAGE);
    void *fresh = mc_own_map(bytes);
    if (!fresh) return 0;
    if (mc_swap_if(&index->tables[number], &table, fresh)) return fresh;
    mc_own_release(fresh, bytes);
    return table;
}

/* Returns 0 if the table is full around there. */
static int add_to(struct mc_index *index, unsigned number, uint64_t hash, uint64_t entry)
{
    uint64_t *table = table_at(index, number);
    uint64_t mask = size_of(number) - 1;
    if (!table) return 1;
    if (mc_load(&index->counts[number]) > mask / 2 && number + 1 < MC_INDEX_TABLES) return 0;
    for (unsigned probe = 0; probe < PROBES; probe++) {
        uint64_t *place = &table[(hash + probe) & mask];
        uint64_t seen = mc_load(place);
        /* One of the same hash was not what its finder meant: an id that was reset. It may go. */
        if (seen && seen >> MC_INDEX_ID_BITS != entry >> MC_INDEX_ID_BITS) continue;
        uint64_t added = !seen;
        if (mc_swap_if(place, &seen, entry)) {
            mc_add(&index->counts[number], added);
            return 1;
        }
    }
    return 0;
}

void mc_index_add(struct mc_index *index, uint64_t hash, uint32_t id)
{
    uint64_t newest = mc_load(&index->newest);
    while (!add_to(index, (unsigned)newest, hash, entry_for(hash, id))) {
        if (newest + 1 == MC_INDEX_TABLES) return;
        if (mc_swap_if(&index->newest, &newest, newest + 1)) newest++;
    }
}

uint32_t mc_index_find(struct mc_index *index, uint64_t hash,
                       int (*matches)(uint32_t id, const void *key), const void *key)
{
    unsigned newest = (unsigned)mc_load(&index->newest);
    for (unsigned number = newest + 1; number-- > 0;) {
        const uint64_t *table = mc_load_acquire(&index->tables[number]);
        uint64_t mask = size_of(number) - 1;
        for (unsigned probe = 0; table && probe < PROBES; probe++) {
            uint64_t entry = mc_load_acquire(&table[(hash + probe) & mask]);
            if (!entry) break;
            uint32_t id = (uint32_t)(entry & ((1u << MC_INDEX_ID_BITS) - 1));
            if (entry != entry_for(hash, id) || !matches(id, key)) continue;
            if (number != newest) mc_index_add(index, hash, id);
            return id;
        }
    }
    return 0;
}
