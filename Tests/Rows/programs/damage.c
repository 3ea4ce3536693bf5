/* SPDX-License-Identifier: MIT */
/* A program that damages its own heap, in the way its argument names, and then waits. It says
 * `ready` before, `damaged ADDRESS` after it was told to by a line on standard input; from then on
 * it allocates nothing. What it does by address it does as an overflow or a wild store would. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <memctl_heap.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OBJECTS = 6000, SIZE = 64, CACHED = 20 };

static struct mc_heap_root *root;
static void *objects[OBJECTS];
static struct mc_span *span;     /* has live and free slots */
static struct mc_span *other;    /* another of its class */
static struct mc_thread *thread; /* that owns both */
static struct mc_arena *arena;
static const void *lender_slot; /* in a span of another thread's */

static uint64_t *entry(uint64_t address)
{
    uint64_t *leaf = ((uint64_t **)root->page_map)[address >> MC_PAGE_MAP_SHIFT];
    return &leaf[address >> MC_SLICE_SHIFT & (MC_PAGE_MAP_ENTRIES - 1)];
}

static struct mc_span *span_of(const void *object)
{
    return (struct mc_span *)*entry((uint64_t)object);
}

static pthread_barrier_t lent;

static void *lend(void *set);

/* Spans that were full, and have a slot free again, are on their thread's list. */
static void fill(void)
{
    for (unsigned i = 0; i < OBJECTS; i++)
        objects[i] = malloc(SIZE);
    for (unsigned i = 0; i < OBJECTS; i += 3)
        free(objects[i]);
    span = span_of(objects[1000]);
    other = span_of(objects[4000]);
    thread = (struct mc_thread *)span->owner;
    for (uint64_t i = 0; i < root->arena_count; i++) {
        struct mc_arena *each = ((struct mc_arena **)root->arenas)[i];
        if (span->base - each->base < each->slice_count * MC_SLICE) arena = each;
    }
    pthread_t lender;
    void *set[CACHED];
    pthread_barrier_init(&lent, 0, 2);
    if (pthread_create(&lender, 0, lend, set)) abort();
    pthread_barrier_wait(&lent);
    lender_slot = set[0];
    for (unsigned i = 0; i < CACHED; i++)
        free(set[i]);
    objects[0] = malloc(200000);
    objects[3] = malloc(40 << 20);
    free(malloc(300000));
}

static uint64_t *bits(unsigned which, uint64_t bit)
{
    return (uint64_t *)arena->bitmaps + which * arena->words + bit / 64;
}

static uint64_t slice_of(const struct mc_span *which)
{
    return (which->base - arena->base) / MC_SLICE;
}

/* A slice of the arena that nobody has. */
static uint64_t free_slice(void)
{
    uint64_t slice = arena->slice_count - 1;
    while (*bits(MC_ARENA_USED, slice) >> slice % 64 & 1)
        slice--;
    return arena->base + slice * MC_SLICE;
}

static uint64_t *slot(uint64_t address)
{
    return (uint64_t *)address;
}

static uint64_t *tag_of(const struct mc_span *span, uint64_t address)
{
    uint64_t index = (address - span->base) / SIZE;
    return (uint64_t *)(mc_tag_is_early(index, span->slot_count) ? span->tags : span->more_tags) +
           index;
}

static uint64_t damage_lists(const char *how)
{
    uint64_t first = span->free;
    if (!strcmp(how, "mark"))
        slot(first)[1] ^= 0x41;
    else if (!strcmp(how, "wild"))
        slot(first)[0] = 0x4141414141414141;
    else if (!strcmp(how, "inside"))
        slot(first)[0] += 16;
    else if (!strcmp(how, "foreign"))
        slot(first)[0] = other->free;
    else if (!strcmp(how, "circle"))
        slot(slot(first)[0])[0] = first;
    else if (!strcmp(how, "head"))
        span->free = 0x1000;
    else if (!strcmp(how, "dropped"))
        span->free = slot(first)[0];
    else if (!strcmp(how, "remote"))
        span->remote = 3ull << 48 | first;
    else if (!strcmp(how, "tag"))
        *tag_of(span, first) = 5;
    else if (!strcmp(how, "stack"))
        *tag_of(span, (uint64_t)objects[1000]) |= 0xfffff0;
    else
        return 0;
    return first;
}

/* The main thread frees slots that another allocated, and keeps them in its cache. */
static void *lend(void *set)
{
    for (unsigned i = 0; i < CACHED; i++)
        ((void **)set)[i] = malloc(SIZE);
    pthread_barrier_wait(&lent);
    for (;;)
        pause();
    return 0;
}

static uint64_t damage_cache(const char *how)
{
    struct mc_span *list = (struct mc_span *)thread->cache + span->class_index;
    uint64_t first = list->free;
    if (!strcmp(how, "cached"))
        slot(first)[1] = 0x4141;
    else if (!strcmp(how, "cache"))
        slot(first)[0] = 0x1000;
    else if (!strcmp(how, "caches"))
        list->used += 2;
    else
        return 0;
    return first;
}

/* What the main thread freed in full spans. */
static uint64_t damage_reuse(const char *how)
{
    struct mc_list *list = &thread->serving[span->class_index].reuse;
    uint64_t first = list->free;
    if (!strcmp(how, "reused"))
        slot(first)[1] = 0x4141;
    else if (!strcmp(how, "reuse"))
        slot(first)[0] = (uint64_t)lender_slot;
    else if (!strcmp(how, "reuses"))
        list->used++;
    else
        return 0;
    return first;
}

/* What stands for the lender's span, where nothing is traced. */
static uint64_t damage_proxy(const char *how)
{
    struct mc_cache *cache = (struct mc_cache *)thread->cache;
    unsigned number = 0;
    while (cache->places[number].stands_for != (uint64_t)span_of(lender_slot))
        number++;
    struct mc_span *proxy = &cache->proxies[number];
    if (!strcmp(how, "proxied"))
        slot(proxy->free)[1] = 0x4141;
    else if (!strcmp(how, "proxies"))
        proxy->used++;
    else if (!strcmp(how, "proxy"))
        proxy->base += SIZE;
    else if (!strcmp(how, "proxy-serves"))
        proxy->free = 0, proxy->used = proxy->slot_count;
    else
        return 0;
    return (uint64_t)proxy;
}

static uint64_t damage_span(const char *how)
{
    if (!strcmp(how, "used"))
        span->used += 3;
    else if (!strcmp(how, "fresh"))
        span->fresh = span->slot_count + 5;
    else if (!strcmp(how, "count"))
        span->slot_count++;
    else if (!strcmp(how, "size"))
        span->reciprocal++;
    else if (!strcmp(how, "class"))
        span->class_index = 200;
    else if (!strcmp(how, "base"))
        span->base += 64;
    else if (!strcmp(how, "state"))
        span->state = 77;
    else if (!strcmp(how, "flags"))
        span->flags |= 0x80;
    else if (!strcmp(how, "limit"))
        span->limit ^= 64;
    else if (!strcmp(how, "list"))
        span->list = (uint64_t)&other->free;
    else if (!strcmp(how, "owner"))
        span->owner = 0x1000;
    else if (!strcmp(how, "full"))
        span->flags |= MC_SPAN_FULL;
    else if (!strcmp(how, "overlap"))
        other->base = span->base;
    else if (!strcmp(how, "large"))
        span_of(objects[0])->slot_size = 1 << 21;
    else if (!strcmp(how, "huge"))
        span_of(objects[3])->size = 1;
    else
        return 0;
    return span->base;
}

static uint64_t damage_map(const char *how)
{
    uint64_t slice = slice_of(span), place = free_slice();
    if (!strcmp(how, "unmapped"))
        *entry(span->base + MC_SLICE) = 0;
    else if (!strcmp(how, "stray"))
        *entry(place) = (uint64_t)span;
    else if (!strcmp(how, "nowhere"))
        *entry(place) = 0x123450;
    else if (!strcmp(how, "bitmap"))
        *bits(MC_ARENA_USED, slice) &= ~(1ull << slice % 64);
    else if (!strcmp(how, "committed"))
        *bits(MC_ARENA_COMMITTED, slice / MC_COMMIT_SLICES) = 0;
    else if (!strcmp(how, "arena"))
        arena->base += 64;
    else if (!strcmp(how, "huge-arena"))
        arena->huge = 1;
    else if (!strcmp(how, "huge-pages"))
        root->huge_pages = 77;
    else if (!strcmp(how, "arenas"))
        root->arena_count = 1 << 20;
    else if (!strcmp(how, "spans"))
        root->span_count += 1 << 20;
    else if (!strcmp(how, "sums"))
        root->huge_bytes += 4096;
    else if (!strcmp(how, "map"))
        root->page_map = 0x1000;
    else
        return 0;
    return place;
}

/* Where the main thread's frees look first: other spans than its own, or the right one in a wrong place. */
static uint64_t damage_own_map(const char *how)
{
    uint64_t *entries = (uint64_t *)((uint64_t)thread + root->own_map);
    uint64_t *entry_of_span = &entries[span->base / MC_SLICE % root->own_map_count];
    if (!strcmp(how, "owned"))
        *entry_of_span = (uint64_t)span_of(lender_slot) - (uint64_t)thread;
    else if (!strcmp(how, "elsewhere"))
        entries[(span->base / MC_SLICE + 999) % root->own_map_count] =
            (uint64_t)span - (uint64_t)thread;
    else if (!strcmp(how, "nothing"))
        thread->nothing.limit = 64;
    else
        return 0;
    return (uint64_t)entry_of_span;
}

static uint64_t damage_threads(const char *how)
{
    unsigned class_index = span->class_index;
    if (!strcmp(how, "threads"))
        thread->next = (uint64_t)thread;
    else if (!strcmp(how, "ghost"))
        thread->next = 0x1000;
    else if (!strcmp(how, "thread"))
        thread->state = 99;
    else if (!strcmp(how, "current"))
        thread->current[class_index] = (uint64_t)other + 8;
    else if (!strcmp(how, "unlinked"))
        ((struct mc_span *)((struct mc_span *)thread->spans[class_index])->next)->previous = 0;
    else if (!strcmp(how, "lost"))
        thread->spans[class_index] = 0;
    else if (!strcmp(how, "kept"))
        thread->kept[class_index] = (uint64_t)span;
    else if (!strcmp(how, "waiting"))
        thread->large[0] = (uint64_t)span;
    else
        return 0;
    return (uint64_t)thread;
}

int main(int count, char **words)
{
    static char line[64];
    if (count != 2) return 2;
    root = dlsym(RTLD_DEFAULT, "memctl_heap_root");
    if (!root) return 3;
    fill();
    if (write(1, "ready\n", 6) != 6 || read(0, line, sizeof(line)) <= 0) return 4;
    uint64_t where = damage_lists(words[1]);
    if (!where && strstr(words[1], "prox")) where = damage_proxy(words[1]);
    if (!where) where = damage_cache(words[1]);
    if (!where) where = damage_reuse(words[1]);
    if (!where) where = damage_span(words[1]);
    if (!where) where = damage_map(words[1]);
    if (!where) where = damage_own_map(words[1]);
    if (!where) where = damage_threads(words[1]);
    int size = snprintf(line, sizeof(line), "damaged %#llx\n", (unsigned long long)where);
    if (!where || write(1, line, (size_t)size) != size) return 5;
    for (;;)
        pause();
}
