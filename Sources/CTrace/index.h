/* SPDX-License-Identifier: MIT */
/* An index: hash -> id, that grows, for any number of threads without locks. In private memory; the
 * records themselves are in the region.
 *
 * Tables of doubling size, newest last. An entry is one word, hash bits above, id below, so it is
 * never seen half written. Whoever adds an entry moves a few others from the oldest table to the
 * newest, until it has none of its own: mostly one table answers, at worst two, also that there is
 * nothing. Two threads that add the same thing at once may both succeed: readers of the region merge
 * such rows. */
#ifndef MC_INDEX_H
#define MC_INDEX_H

#include "bits.h"

enum { MC_INDEX_TABLES = 20, MC_INDEX_FIRST_BITS = 10, MC_INDEX_ID_BITS = 26 };

struct mc_index {
    uint64_t *tables[MC_INDEX_TABLES]; /* [shared] of 2^(FIRST_BITS + k) words; NULL until made */
    uint64_t counts[MC_INDEX_TABLES];  /* [shared] entries added to each */
    uint64_t newest;                   /* [shared] */
    uint64_t oldest;                   /* [shared] of those that are looked in */
    const uint64_t *floor; /* [const] ids below it are of no use any more; NULL: all are */
    uint64_t begun[MC_INDEX_TABLES]; /* [shared] words of each that somebody moves, or has moved */
    uint64_t moved[MC_INDEX_TABLES]; /* [shared] those that were */
};

/* The first id under this hash that `matches` says is meant; 0 if there is none. */
uint32_t mc_index_find(struct mc_index *index, uint64_t hash,
                       int (*matches)(uint32_t id, const void *key), const void *key);

/* What a search for it will look at first comes meanwhile. */
void mc_index_expect(const struct mc_index *index, uint64_t hash);

/* id > 0, below 2^MC_INDEX_ID_BITS. When there is no memory the entry is left out: the next one to
 * look for it makes it anew. */
void mc_index_add(struct mc_index *index, uint64_t hash, uint32_t id);

static inline uint64_t mc_hash_mix(uint64_t hash, uint64_t value)
{
    unsigned __int128 product = (unsigned __int128)(hash ^ value) * 0x9e3779b97f4a7c15ull;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

#endif
