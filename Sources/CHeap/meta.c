/* SPDX-License-Identifier: MIT */
/* See meta.h. */
#include "meta.h"

#include "os.h"
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

void *mc_meta_alloc(size_t size)
{
    size = mc_round_up(size, MC_CACHE_LINE);
    for (;;) {
        struct chunk *chunk = mc_load_acquire(&current);
        if (size > MC_META_CHUNK / 4) chunk = 0;
        void *item = bump(chunk, size);
        if (item) return item;
        uint64_t total = size > MC_META_CHUNK / 4 ? mc_round_up(size, MC_PAGE) : MC_META_CHUNK;
        void *fresh;
        if (mc_os_map(total, &fresh)) return 0;
        mc_add(&mc_root()->metadata_bytes, total);
        if (size > MC_META_CHUNK / 4) return fresh;
        struct chunk *made = fresh;
        made->used = MC_CACHE_LINE;
        made->size = total;
        /* Release pairs with the acquire above: `size` is there before the chunk is. */
        if (!mc_swap_if(&current, &chunk, made)) {
            mc_os_release(fresh, total);
            mc_sub(&mc_root()->metadata_bytes, total);
        }
    }
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
