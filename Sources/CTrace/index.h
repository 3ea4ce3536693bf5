/* SPDX-License-Identifier: MIT */
/* An index: hash -> id of a record in the region, that grows, for any number of threads without locks. In
 * private memory; all that an entry says follows from its record.
 *
 * Tables that grow by half and by a third in turn, newest last, at most 13/16 full; so at least 13/24 are,
 * when one is begun. An entry is one word of 32 bits, the id below
 * and as much of the hash as has room above, so it is never seen half written. What has the same bits but
 * is another record is told from it by `matches`, which looks at the record.
 *
 * A new table is filled from the records, in their order: whoever adds an entry takes some of them along,
 * more than were added meanwhile, until all are there that were when it became the newest. Then the tables
 * before it give their memory back. Until then at worst two answer, also that there is nothing. Two
 * threads that add the same thing at once may both succeed: readers of the region merge such rows. */
#ifndef MC_INDEX_H
#define MC_INDEX_H

#include "bits.h"

enum { MC_INDEX_TABLES = 39, MC_INDEX_FIRST_BITS = 10, MC_INDEX_ID_BITS = 26 };

/* What is in it. */
struct mc_index_records {
    unsigned id_bits;                 /* of ids, at most MC_INDEX_ID_BITS */
    const uint64_t *count;            /* [shared] all ids are below */
    const uint64_t *floor;            /* ids below it are of no use any more; NULL: all are */
    uint64_t (*hash_of)(uint32_t id); /* 0: there is none, or it is not whole yet */
};

struct mc_index_tables {
    /* [shared] 2^FIRST_BITS, 3/2 of that, twice that, and so on; NULL until made */
    uint32_t *words[MC_INDEX_TABLES];
    uint64_t counts[MC_INDEX_TABLES]; /* [shared] words of each that are not 0 */
    uint64_t newest;                  /* [shared] */
    uint64_t oldest;                  /* [shared] of those that are looked in */
    uint64_t ends[MC_INDEX_TABLES]; /* [shared] ids to fill each with are below; 0: not said yet */
    uint64_t
        begun[MC_INDEX_TABLES]; /* [shared] ids below are those that somebody fills in, or has */
    uint64_t filled[MC_INDEX_TABLES]; /* [shared] how many were */
};

/* All zero at first, and apart from what is constant: so no page is written for it until it is used. */
struct mc_index {
    struct mc_index_records records;
    struct mc_index_tables *tables;
};

/* The first id under this hash that `matches` says is meant; 0 if there is none. */
uint32_t mc_index_find(const struct mc_index *index, uint64_t hash,
                       int (*matches)(uint32_t id, const void *key), const void *key);

/* What a search for it will look at first comes meanwhile. */
void mc_index_expect(const struct mc_index *index, uint64_t hash);

/* 0 without memory for one entry more. A record that would be left out is better not made: whoever looks for
 * it would make it anew each time, until there is no room for any other. */
int mc_index_has_room(const struct mc_index *index);

/* 0 < id, whose record is whole and has that hash, which is not 0. When there is no memory the entry may be
 * left out: the next one to look for it makes it anew. */
void mc_index_add(const struct mc_index *index, uint64_t hash, uint32_t id);

static inline uint64_t mc_hash_mix(uint64_t hash, uint64_t value)
{
    unsigned __int128 product = (unsigned __int128)(hash ^ value) * 0x9e3779b97f4a7c15ull;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

#endif
