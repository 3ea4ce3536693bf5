/* SPDX-License-Identifier: MIT */
/* See structs.h. */
#include "structs.h"

#include "check.h"
#include "heap.h"
#include "limits.h"
#include "meta.h"
#include "os.h"
#include "root.h"

enum {
    PAGE_STRUCTS = MC_PAGE / sizeof(struct mc_span),
    PAGES_MAX = MC_SPAN_POOLS_MAX * MC_SPAN_POOL_COUNT / PAGE_STRUCTS,
};
_Static_assert(MC_SPAN_POOL_COUNT % PAGE_STRUCTS == 0, "pools are whole pages");

/* Threads take from the stack of their number, and what they take together lies together. */
enum { STACKS = 8, STEAL_ABOVE = 16 * PAGE_STRUCTS };
static struct mc_pool free_structs[STACKS];
static uint64_t free_count; /* [shared] on all stacks; advisory, and may pass 0 for a moment */
MC_TABLE static uint64_t
    empty[PAGES_MAX / 64];     /* [shared] a bit for each page that was given back */
static uint64_t empty_count;   /* [shared] of these bits; advisory */
static uint64_t next_seal = 2; /* [shared] even numbers, two for each trim */

static struct mc_span *struct_at(uint64_t number)
{
    struct mc_span *start =
        (struct mc_span *)mc_load_acquire(&mc_span_pools[number / MC_SPAN_POOL_COUNT].start);
    return start + number % MC_SPAN_POOL_COUNT;
}

static struct mc_pool *own_stack(void)
{
    return &free_structs[mc_thread_number() % STACKS];
}

static void push(struct mc_pool *stack, struct mc_span *span)
{
    mc_add(&free_count, 1);
    mc_pool_give(stack, span);
}

static struct mc_span *pop(struct mc_pool *stack)
{
    struct mc_span *span = mc_pool_take(stack);
    if (span) mc_sub(&free_count, 1);
    return span;
}

/* All structs of a page that nobody has any of; the first is the caller's. */
static struct mc_span *share_out(struct mc_span *first)
{
    struct mc_pool *stack = own_stack();
    for (unsigned i = PAGE_STRUCTS - 1; i > 0; i--)
        push(stack, first + i);
    return first;
}

/* The next page of structs never used before. */
static struct mc_span *make(void)
{
    uint64_t number = mc_load(&mc_root()->span_count);
    do {
        uint64_t pool = number / MC_SPAN_POOL_COUNT;
        if (pool == MC_SPAN_POOLS_MAX) return 0;
        if (mc_load_acquire(&mc_span_pools[pool].start)) continue;
        uint64_t size = MC_SPAN_POOL_COUNT * sizeof(struct mc_span);
        void *fresh = mc_meta_alloc(size);
        uint64_t none = 0;
        if (!fresh) return 0;
        mc_store(&mc_span_pools[pool].count, MC_SPAN_POOL_COUNT);
        if (mc_swap_if(&mc_span_pools[pool].start, &none, (uint64_t)fresh))
            mc_add(&mc_root()->pool_count, 1);
        else
            mc_meta_unmap(fresh, size);
    } while (!mc_swap_if(&mc_root()->span_count, &number, number + PAGE_STRUCTS));
    return share_out(struct_at(number));
}
_Static_assert(MC_SPAN_POOL_COUNT * sizeof(struct mc_span) > MC_META_CHUNK / 4,
               "a pool is a mapping of its own: page-aligned, and a loser can unmap it");

/* Clears a bit of the word and returns its number, or PAGES_MAX. */
static uint64_t claim_empty(uint64_t word)
{
    for (uint64_t bits; (bits = mc_load(&empty[word])) != 0;) {
        uint64_t bit = bits & -bits;
        if (__atomic_fetch_and(&empty[word], ~bit, __ATOMIC_ACQUIRE) & bit)
            return word * 64 + (uint64_t)__builtin_ctzll(bit);
    }
    return PAGES_MAX;
}

static struct mc_span *reuse_empty(void)
{
    if (likely(!mc_load(&empty_count))) return 0;
    uint64_t pages = mc_load(&mc_root()->span_count) / PAGE_STRUCTS + 1;
    for (uint64_t word = 0; word * 64 < pages && word < PAGES_MAX / 64; word++) {
        uint64_t page = claim_empty(word);
        if (page == PAGES_MAX) continue;
        mc_sub(&empty_count, 1);
        return share_out(struct_at(page * PAGE_STRUCTS));
    }
    return 0;
}

/* Another thread's, where they are many, or as the last resort. */
static struct mc_span *steal(uint64_t above)
{
    struct mc_span *span = 0;
    if (mc_load(&free_count) <= above) return 0;
    for (unsigned i = 0; i < STACKS && !span; i++)
        span = pop(&free_structs[i]);
    return span;
}

struct mc_span *mc_span_struct_take(void)
{
    struct mc_span *span = pop(own_stack());
    if (likely(span != 0)) return span;
    span = steal(STEAL_ABOVE + mc_load(&mc_root()->span_count) / 8);
    if (!span) span = reuse_empty();
    if (!span) span = make();
    return span ? span : steal(0);
}

void mc_span_struct_give(struct mc_span *span)
{
    mc_store_release(&span->state, MC_SPAN_UNUSED);
    push(own_stack(), span);
}

/* -- counts -------------------------------------------------------------------------------- */

/* What it counted goes to the root, and stays there. */
static void hand_in(struct mc_span *span)
{
    mc_add(&mc_root()->slots_taken[span->class_index], span->allocations);
    mc_store(&span->allocations, 0);
}

static const uint64_t a_round = 1ull << 32;

void mc_span_went_round(const struct mc_span *span)
{
    mc_add(&mc_root()->slots_taken[span->class_index], a_round);
}

void mc_span_count_taken(struct mc_span *span)
{
    if (unlikely(mc_step_is_zero(&span->allocations, 1))) mc_span_went_round(span);
}

void mc_span_count_returned(struct mc_span *span)
{
    if (unlikely(!span->allocations)) mc_sub(&mc_root()->slots_taken[span->class_index], a_round);
    mc_step(&span->allocations, -1u);
}

void mc_span_count_for(struct mc_span *span, unsigned class_index)
{
    if (span->class_index != class_index) {
        hand_in(span);
        mc_store(&span->class_index, (uint8_t)class_index);
    }
    mc_store(&span->used, 0);
}

/* -- trim ----------------------------------------------------------------------------------- */

static struct mc_span *link_of(const struct mc_span *span)
{
    return (struct mc_span *)mc_load(&span->base); /* the stack's word */
}

static struct mc_span *page_of(const struct mc_span *span)
{
    return (struct mc_span *)((uint64_t)span & ~(uint64_t)(MC_PAGE - 1));
}

/* Seals say in `mark` which structs this trim holds, and, on the first of a page, that it holds all. No
 * span has an even mark, and no other trim the same. */
static void seal_pages(const struct mc_span *held, uint64_t seal)
{
    for (; held; held = link_of(held)) {
        struct mc_span *first = page_of(held);
        unsigned sealed = 0;
        if (held != first) continue;
        while (sealed < PAGE_STRUCTS && mc_load(&first[sealed].mark) == seal)
            sealed++;
        if (sealed == PAGE_STRUCTS) mc_store(&first->mark, seal + 1);
    }
}

static uint64_t number_of(const struct mc_span *span)
{
    for (uint64_t pool = 0;; pool++) {
        uint64_t offset = (uint64_t)span - mc_load(&mc_span_pools[pool].start);
        if (offset < MC_SPAN_POOL_COUNT * sizeof(*span))
            return pool * MC_SPAN_POOL_COUNT + offset / sizeof(*span);
    }
}

static void give_page(struct mc_span *first)
{
    for (unsigned i = 0; i < PAGE_STRUCTS; i++)
        hand_in(first + i);
    if (mc_os_purge(first, MC_PAGE)) {
        for (unsigned i = 0; i < PAGE_STRUCTS; i++) {
            mc_store(&first[i].mark, 0);
            push(own_stack(), first + i);
        }
        return;
    }
    uint64_t page = number_of(first) / PAGE_STRUCTS;
    mc_add(&empty_count, 1);
    /* Release pairs with claim_empty(): the page reads as zero for whoever finds the bit. */
    __atomic_fetch_or(&empty[page / 64], 1ull << page % 64, __ATOMIC_RELEASE);
}

/* Takes what is not part of a sealed page off the list, back to the stack; of a sealed page the first
 * struct goes on the list of `pages`. */
static void sort_out(struct mc_span *held, uint64_t seal, struct mc_pool *stack,
                     struct mc_span **pages)
{
    for (struct mc_span *span = held, *next; span; span = next) {
        next = link_of(span);
        if (mc_load(&page_of(span)->mark) != seal + 1) {
            mc_store(&span->mark, 0);
            push(stack, span);
        } else if (span == page_of(span)) {
            mc_store(&span->base, (uint64_t)*pages);
            *pages = span;
        }
    }
}

void mc_structs_trim(void)
{
    struct mc_span *held[STACKS], *pages = 0;
    uint64_t seal = mc_add(&next_seal, 2), count = 0;
    for (unsigned i = 0; i < STACKS; i++) {
        held[i] = mc_pool_take_all(&free_structs[i]);
        for (struct mc_span *span = held[i]; span; span = link_of(span), count++)
            mc_store(&span->mark, seal);
    }
    mc_sub(&free_count, count);
    for (unsigned i = 0; i < STACKS; i++)
        seal_pages(held[i], seal);
    for (unsigned i = 0; i < STACKS; i++)
        sort_out(held[i], seal, &free_structs[i], &pages);
    for (struct mc_span *next; pages; pages = next) {
        next = link_of(pages);
        give_page(pages);
    }
}

void mc_structs_check(void)
{
    uint64_t count = 0;
    for (uint64_t page = 0; page < PAGES_MAX; page++) {
        if (!(mc_load(&empty[page / 64]) >> page % 64 & 1)) continue;
        for (unsigned i = 0; i < PAGE_STRUCTS; i++)
            mc_assert(struct_at(page * PAGE_STRUCTS + i)->state == MC_SPAN_UNUSED);
        count++;
    }
    mc_assert(count == mc_load(&empty_count));
}
