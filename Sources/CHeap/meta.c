/* SPDX-License-Identifier: MIT */
/* See meta.h. */
#include "meta.h"

#include "check.h"
#include "os.h"
#include "ranges.h"
#include "root.h"

/* The head of a chunk. */
struct chunk {
    uint64_t used; /* [shared] bytes given out, the head included; may pass `size` */
    uint64_t size; /* [const] */
};

static struct chunk *current; /* [shared] */

static void *bump(struct chunk *chunk, size_t size)
{
    if (!chunk) return 0;
    uint64_t offset = mc_add(&chunk->used, size);
    return offset + size <= chunk->size ? (char *)chunk + offset : 0;
}

/* It may come out of the very chunk that is to be listed. Metadata that finds no memory to be listed in
 * is counted all the same. */
static struct mc_meta_list *make_list(void)
{
    return mc_meta_alloc(sizeof(struct mc_meta_list));
}

static void note(void *start, size_t size)
{
    mc_ranges_note(&mc_root()->meta_lists, start, size, make_list);
}

static void *map(size_t size)
{
    void *fresh;
    if (mc_os_map(size, &fresh)) return 0;
    mc_add(&mc_root()->metadata_bytes, size);
    return fresh;
}

static void unmap(void *start, size_t size)
{
    if (!mc_os_release(start, size)) mc_sub(&mc_root()->metadata_bytes, size);
}

void *mc_meta_map(size_t size)
{
    void *fresh = map(size);
    if (fresh) note(fresh, size);
    return fresh;
}

void mc_meta_unmap(void *start, size_t size)
{
    mc_ranges_forget(&mc_root()->meta_lists, start);
    unmap(start, size);
}

void *mc_meta_alloc(size_t size)
{
    size = mc_round_up(size, MC_CACHE_LINE);
    if (size > MC_META_CHUNK / 4) return mc_meta_map(mc_round_up(size, MC_PAGE));
    for (;;) {
        struct chunk *chunk = mc_load_acquire(&current);
        void *item = bump(chunk, size);
        if (item) return item;
        struct chunk *fresh = map(MC_META_CHUNK);
        if (!fresh) return 0;
        fresh->used = MC_CACHE_LINE;
        fresh->size = MC_META_CHUNK;
        /* Release pairs with the acquire above: `size` is there before the chunk is. Listed only
         * then: a list may have to be made in it. */
        if (mc_swap_if(&current, &chunk, fresh))
            note(fresh, MC_META_CHUNK);
        else
            unmap(fresh, MC_META_CHUNK);
    }
}

/* Not always equal: a fork may have come between the count and the list. */
void mc_meta_check(void)
{
    mc_assert(mc_ranges_bytes(&mc_root()->meta_lists) <= mc_root()->metadata_bytes);
}

enum { ADDRESS_BITS = 48 };

static uint64_t *address_of(uint64_t top)
{
    return (uint64_t *)(top & ((1ull << ADDRESS_BITS) - 1));
}

static uint64_t next_top(uint64_t top, uint64_t address)
{
    return ((top >> ADDRESS_BITS) + 1) << ADDRESS_BITS | address;
}

void mc_pool_give(struct mc_pool *pool, void *item)
{
    uint64_t top = mc_load(&pool->top);
    do {
        mc_store((uint64_t *)item, (uint64_t)address_of(top));
    } while (!mc_swap_if(&pool->top, &top, next_top(top, (uint64_t)item)));
}

void *mc_pool_take_all(struct mc_pool *pool)
{
    uint64_t top = mc_load(&pool->top);
    while (!mc_swap_if(&pool->top, &top, next_top(top, 0)))
        ;
    return address_of(top);
}

void *mc_pool_take(struct mc_pool *pool)
{
    uint64_t top = mc_load_acquire(&pool->top);
    for (;;) {
        uint64_t *item = address_of(top);
        if (!item) return 0;
        uint64_t next = mc_load(item);
        if (mc_swap_if(&pool->top, &top, next_top(top, next))) {
            mc_store(item, 0);
            return item;
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE); /* pairs with mc_pool_give's release */
    }
}
