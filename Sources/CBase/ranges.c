/* SPDX-License-Identifier: MIT */
/* See ranges.h. */
#include "ranges.h"

#include "bits.h"

static struct mc_meta_list *first_of(const uint64_t *newest)
{
    return (struct mc_meta_list *)mc_load_acquire(newest);
}

static struct mc_meta_list *next_of(const struct mc_meta_list *list)
{
    return (struct mc_meta_list *)list->next;
}

static int put(struct mc_meta_list *list, const void *start, size_t size)
{
    uint64_t place = mc_add(&list->count, 1);
    if (place >= MC_META_LIST_MAX) return 0;
    mc_store(&list->ranges[place].size, size);
    mc_store_release(&list->ranges[place].start, (uint64_t)start); /* for the reader outside */
    return 1;
}

static int add_list(uint64_t *newest, struct mc_meta_list *(*make)(void))
{
    struct mc_meta_list *list = make();
    if (!list) return 0;
    uint64_t head = mc_load(newest);
    do {
        list->next = head;
    } while (!mc_swap_if(newest, &head, (uint64_t)list));
    return 1;
}

void mc_ranges_note(uint64_t *newest, const void *start, size_t size,
                    struct mc_meta_list *(*make)(void))
{
    do {
        struct mc_meta_list *list = first_of(newest);
        if (list && put(list, start, size)) return;
    } while (add_list(newest, make));
}

void mc_ranges_forget(const uint64_t *newest, const void *start)
{
    for (struct mc_meta_list *list = first_of(newest); list; list = next_of(list)) {
        for (unsigned i = 0; i < MC_META_LIST_MAX; i++) {
            if (mc_load_acquire(&list->ranges[i].start) == (uint64_t)start &&
                mc_load(&list->ranges[i].size)) {
                mc_store(&list->ranges[i].size, 0);
                return;
            }
        }
    }
}

uint64_t mc_ranges_bytes(const uint64_t *newest)
{
    uint64_t bytes = 0;
    for (const struct mc_meta_list *list = first_of(newest); list; list = next_of(list)) {
        for (unsigned i = 0; i < MC_META_LIST_MAX; i++)
            bytes += mc_load_acquire(&list->ranges[i].start) ? mc_load(&list->ranges[i].size) : 0;
    }
    return bytes;
}
