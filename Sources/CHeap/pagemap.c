/* SPDX-License-Identifier: MIT */
/* See pagemap.h. */
#include "pagemap.h"

#include <errno.h>

#include "meta.h"
#include "os.h"
#include "root.h"

MC_TABLE uint64_t *mc_page_map[MC_ROOT_COUNT];

_Static_assert(MC_LEAF_SHIFT == 30 && MC_ROOT_COUNT == 1u << 17 && MC_LEAF_COUNT == 0x10000,
               "mc_free() in heap.h has these numbers");

enum { LEAF_BYTES = (int)(MC_LEAF_COUNT * sizeof(uint64_t)) };

static uint64_t *spare; /* [shared] a leaf put by, or NULL */

int mc_page_map_prepare(void)
{
    if (mc_load(&spare)) return 0;
    void *fresh = mc_meta_map(LEAF_BYTES);
    if (!fresh) return ENOMEM;
    uint64_t *none = 0;
    if (!mc_swap_if(&spare, &none, fresh)) mc_meta_unmap(fresh, LEAF_BYTES);
    return 0;
}

static int make_leaf(uint64_t index)
{
    uint64_t *none = 0;
    if (mc_load_acquire(&mc_page_map[index])) return 0;
    int error = mc_page_map_prepare();
    uint64_t *leaf = mc_take(&spare);
    if (!leaf) return error ? error : make_leaf(index); /* another thread took ours */
    if (!mc_swap_if(&mc_page_map[index], &none, leaf)) mc_meta_unmap(leaf, LEAF_BYTES);
    return 0;
}

static uint64_t *entry(uint64_t address)
{
    uint64_t *leaf = mc_load_acquire(&mc_page_map[address >> MC_LEAF_SHIFT]);
    return &leaf[address >> MC_SLICE_SHIFT & (MC_LEAF_COUNT - 1)];
}

int mc_page_map_set(uint64_t base, uint64_t slices, struct mc_span *span)
{
    uint64_t last = base + (slices - 1) * MC_SLICE;
    for (uint64_t index = base >> MC_LEAF_SHIFT; index <= last >> MC_LEAF_SHIFT; index++) {
        int error = index < MC_ROOT_COUNT ? make_leaf(index) : ENOMEM;
        if (error) return error;
    }
    for (uint64_t i = 0; i < slices; i++)
        mc_store_release(entry(base + i * MC_SLICE), (uint64_t)span);
    return 0;
}

void mc_page_map_purge(uint64_t base)
{
    if (mc_load_acquire(&mc_page_map[base >> MC_LEAF_SHIFT])) mc_os_purge(entry(base), MC_PAGE);
}

void mc_page_map_clear(uint64_t base, uint64_t slices)
{
    for (uint64_t i = 0; i < slices; i++)
        mc_store(entry(base + i * MC_SLICE), 0);
}
