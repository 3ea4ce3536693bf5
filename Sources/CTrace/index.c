/* SPDX-License-Identifier: MIT */
/* See index.h. */
#include "index.h"

#include "own.h"

/* Fuller than that, runs of entries get long: a search that finds nothing looks at 15 there, a cache line.
 * Without memory for a larger table it is filled further, but so that a search ends. */
enum { FULL_SIXTEENTHS = 13, BRIM_SIXTEENTHS = 15 };

/* More are never looked at; as many records are taken along at once as have FILLED_AT_ONCE entries. */
enum { PROBES = 1024, FILLED_AT_ONCE = 16 };

static uint64_t size_of(unsigned table)
{
    uint64_t doubled = 1ull << (MC_INDEX_FIRST_BITS + table / 2);
    return table % 2 ? doubled + doubled / 2 : doubled;
}

static uint64_t bytes_of(unsigned table)
{
    return mc_round_up(size_of(table) * sizeof(uint32_t), MC_PAGE);
}

/* The upper bits of a hash say where its entry is looked for first, the lower ones are kept in it. */
static uint64_t place_of(uint64_t hash, uint64_t size)
{
    return (hash >> 32) * size >> 32;
}

static uint64_t place_after(uint64_t place, uint64_t size)
{
    return place + 1 == size ? 0 : place + 1;
}

static uint32_t entry_for(const struct mc_index *index, uint64_t hash, uint32_t id)
{
    return (uint32_t)hash << index->records.id_bits | id;
}

static uint32_t id_of(const struct mc_index *index, uint32_t entry)
{
    return entry & ((1u << index->records.id_bits) - 1);
}

/* Makes the table if it is not there. NULL without memory. */
static uint32_t *table_at(const struct mc_index *index, unsigned number)
{
    uint32_t *table = mc_load_acquire(&index->tables->words[number]);
    if (likely(table)) return table;
    uint64_t bytes = bytes_of(number);
    void *fresh = mc_own_map(bytes);
    if (!fresh) return 0;
    if (mc_swap_if(&index->tables->words[number], &table, fresh)) return fresh;
    mc_own_release(fresh, bytes);
    return table;
}

/* Was reset, so that nobody looks for it: the entry's place is as good as a free one. */
static int is_stale(const struct mc_index *index, uint32_t id)
{
    return index->records.floor && id < mc_load(index->records.floor);
}

/* Returns 0 if there are `most` entries, or the place is in a run of too many. */
static int add_to(const struct mc_index *index, unsigned number, uint64_t hash, uint32_t id,
                  uint64_t most)
{
    uint32_t *table = table_at(index, number), entry = entry_for(index, hash, id);
    uint64_t size = size_of(number), place = place_of(hash, size);
    if (!table) return 1;
    for (unsigned probe = 0; probe < PROBES; probe++, place = place_after(place, size)) {
        uint32_t seen = mc_load(&table[place]);
        for (;;) {
            if (seen == entry) return 1;
            if (seen && !is_stale(index, id_of(index, seen))) break;
            if (!seen && mc_load(&index->tables->counts[number]) >= most) return 0;
            uint32_t added = !seen;
            if (!mc_swap_if(&table[place], &seen, entry)) continue;
            mc_add(&index->tables->counts[number], added);
            return 1;
        }
    }
    return 0;
}

static uint64_t full(unsigned table)
{
    return size_of(table) / 16 * FULL_SIXTEENTHS;
}

static uint64_t brim(unsigned table)
{
    return size_of(table) / 16 * BRIM_SIXTEENTHS;
}

static int may_grow(const struct mc_index *index, uint64_t newest)
{
    return newest + 1 < MC_INDEX_TABLES && table_at(index, (unsigned)newest + 1);
}

int mc_index_has_room(const struct mc_index *index)
{
    unsigned newest = (unsigned)mc_load(&index->tables->newest);
    uint64_t count = mc_load(&index->tables->counts[newest]);
    if (likely(count < full(newest))) return table_at(index, newest) != 0;
    return may_grow(index, newest) || count < brim(newest);
}

/* In the newest table with room around there. */
static void insert(const struct mc_index *index, uint64_t hash, uint32_t id)
{
    uint64_t newest = mc_load(&index->tables->newest);
    while (!add_to(index, (unsigned)newest, hash, id, full((unsigned)newest))) {
        if (!may_grow(index, newest)) {
            add_to(index, (unsigned)newest, hash, id, brim((unsigned)newest));
            return;
        }
        if (mc_swap_if(&index->tables->newest, &newest, newest + 1)) newest++;
    }
}

/* The ids that a table has to be filled with are below this. Asked for when it is the newest already: an id
 * that somebody adds to the one before was below the count then. */
static uint64_t end_of(const struct mc_index *index, unsigned number)
{
    uint64_t end = mc_load_acquire(&index->tables->ends[number]);
    if (end) return end;
    uint64_t count = mc_load_acquire(index->records.count);
    return mc_swap_if(&index->tables->ends[number], &end, count) ? count : end;
}

/* What is found in this table is all there is. The pages of those before go back; who is late may find nothing
 * there, and looks again, or adds an entry in vain, so that it is made anew. */
static void retire_before(const struct mc_index *index, uint64_t number)
{
    uint64_t oldest = mc_load(&index->tables->oldest);
    while (oldest < number && !mc_swap_if(&index->tables->oldest, &oldest, number)) {
    }
    for (; oldest < number; oldest++) {
        uint32_t *table = mc_load_acquire(&index->tables->words[oldest]);
        if (table) mc_own_purge(table, bytes_of((unsigned)oldest));
    }
}

/* The hash of a record that belongs in there; else 0. */
static uint64_t hash_if_any(const struct mc_index *index, uint64_t id)
{
    return is_stale(index, (uint32_t)id) ? 0 : index->records.hash_of((uint32_t)id);
}

/* Records [from, to) to the newest table. Their places are far off: all are asked for before any is waited
 * for. */
static void fill(const struct mc_index *index, uint64_t from, uint64_t to)
{
    for (uint64_t id = from; id < to; id++) {
        uint64_t hash = hash_if_any(index, id);
        if (hash) mc_index_expect(index, hash);
    }
    for (uint64_t id = from; id < to; id++) {
        uint64_t hash = hash_if_any(index, id);
        if (hash) insert(index, hash, (uint32_t)id);
    }
}

/* Some records to the newest table, if it has not all. Whoever is done with the last ones retires those before; a
 * child that was forked in the middle of some keeps them until the next table is full. */
static void fill_some(const struct mc_index *index)
{
    unsigned newest = (unsigned)mc_load_acquire(&index->tables->newest);
    /* It is beyond `newest` if others made and filled another table since that was read. */
    if (likely(mc_load(&index->tables->oldest) >= newest)) return;
    uint64_t end = end_of(index, newest), entries = mc_load(&index->tables->counts[newest - 1]) + 1;
    uint64_t share = FILLED_AT_ONCE * (end / entries + 1);
    if (mc_load(&index->tables->begun[newest]) >= end) return;
    uint64_t from = mc_add(&index->tables->begun[newest], share);
    if (from >= end) return;
    uint64_t to = end - from < share ? end : from + share;
    fill(index, from, to);
    /* Pairs with the load in mc_index_find(): who does not look before it sees what was filled in. */
    uint64_t filled =
        __atomic_add_fetch(&index->tables->filled[newest], to - from, __ATOMIC_ACQ_REL);
    if (filled == end) retire_before(index, newest);
}

void mc_index_add(const struct mc_index *index, uint64_t hash, uint32_t id)
{
    insert(index, hash, id);
    fill_some(index);
}

void mc_index_expect(const struct mc_index *index, uint64_t hash)
{
    unsigned newest = (unsigned)mc_load_acquire(&index->tables->newest);
    const uint32_t *table = mc_load_acquire(&index->tables->words[newest]);
    if (table) __builtin_prefetch(&table[place_of(hash, size_of(newest))]);
}

static uint32_t find_in(const struct mc_index *index, unsigned number, uint64_t hash,
                        int (*matches)(uint32_t id, const void *key), const void *key)
{
    const uint32_t *table = mc_load_acquire(&index->tables->words[number]);
    uint64_t size = size_of(number), place = place_of(hash, size);
    uint32_t wanted = entry_for(index, hash, 0);
    for (unsigned probe = 0; table && probe < PROBES; probe++, place = place_after(place, size)) {
        uint32_t entry = mc_load_acquire(&table[place]);
        if (!entry) break;
        uint32_t id = id_of(index, entry);
        if (entry - id == wanted && matches(id, key)) return id;
    }
    return 0;
}

uint32_t mc_index_find(const struct mc_index *index, uint64_t hash,
                       int (*matches)(uint32_t id, const void *key), const void *key)
{
    uint64_t oldest = mc_load_acquire(&index->tables->oldest), looked;
    do {
        looked = oldest;
        unsigned newest = (unsigned)mc_load_acquire(&index->tables->newest);
        for (unsigned number = newest + 1; number-- > looked;) {
            uint32_t id = find_in(index, number, hash, matches, key);
            if (id) return id;
        }
        /* A table that was retired meanwhile reads as empty. */
        oldest = mc_load_acquire(&index->tables->oldest);
    } while (unlikely(oldest != looked));
    return 0;
}
