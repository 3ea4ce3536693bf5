/* misuse.c: death cases. What glibc leaves undefined must end in SIGABRT, with one line on stderr
 * that names the fault and the address, and nothing else: never silent corruption, never a second
 * crash inside the report. Each fault is made in a child of its own. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

static const size_t slot_sizes[] = {1, 16, 24, 100, 128, 1000, 5000, 16384, 40000};
static const size_t large_sizes[] = {(size_t)100 << 10, (size_t)1 << 20, (size_t)64 << 20};
#define FOR_EACH(I, SIZES) for (size_t I = 0; I < sizeof SIZES / sizeof *SIZES; I++)

static void free_it(void *p)
{
    free(p);
}

static void free_twice(void *p)
{
    free(p);
    free(p);
}

static void realloc_it(void *p)
{
    (void)!realloc(hide(p), 100);
}

static void realloc_it_to_zero(void *p)
{
    (void)!realloc(hide(p), hide_size(0));
}

static void usable_size_of_it(void *p)
{
    (void)!malloc_usable_size(hide(p));
}

static void *must_malloc(size_t size)
{
    char *p = malloc(size);
    REQUIRE(p);
    memset(p, 1, size < 4096 ? size : 4096);
    return hide(p);
}

/* Of a slot of each size: freed again by the parent, whose block it still is. */
static void require_abort_of_slots(void (*body)(void *), const char *word)
{
    FOR_EACH (i, slot_sizes) {
        void *p = must_malloc(slot_sizes[i]);
        require_abort(body, p, word, p);
        free(p);
    }
}

CASE_OURS(misuse_double_free, "the same block freed twice in a row aborts")
{
    require_abort_of_slots(free_twice, "double free");
}

CASE_OURS(misuse_double_free_large, "a large or huge block freed twice aborts")
{
    FOR_EACH (i, large_sizes) {
        void *p = must_malloc(large_sizes[i]);
        require_abort(free_twice, p, NULL, p);
        free(p);
    }
}

/* The second free comes when the slot is deep in its free list. */
static void free_twice_among_others(void *p)
{
    enum { COUNT = 1000 };
    static void *others[COUNT];
    size_t size = malloc_usable_size(p);
    for (int i = 0; i < COUNT; i++)
        others[i] = must_malloc(size);
    for (int i = 0; i < COUNT / 2; i++)
        free(others[i]);
    free(p);
    for (int i = COUNT / 2; i < COUNT; i++)
        free(others[i]);
    free(p);
}

CASE_OURS(misuse_double_free_with_others_between, "a slot already on its free list is freed again: "
                                                  "abort")
{
    require_abort_of_slots(free_twice_among_others, "double free");
}

static void free_overwrite_free(void *p)
{
    free(p);
    ((volatile char *)p)[0] = 0x41;
    free(p);
}

CASE_OURS(misuse_double_free_after_write, "a freed block written to and freed again aborts")
{
    require_abort_of_slots(free_overwrite_free, NULL);
}

/* The threads exist before the first free: making one allocates, possibly where `p` was, and then
 * the second free would be of a live block. */
static atomic_int turn;
static void *freed_in_turn;

static void *free_at_turn(void *which)
{
    while (atomic_load(&turn) != (int)(uintptr_t)which)
        sched_yield();
    free(freed_in_turn);
    atomic_store(&turn, 0);
    for (;;)
        pause();
    return NULL;
}

/* Thread `which` frees; returns when it has. */
static void let_free(int which)
{
    atomic_store(&turn, which);
    while (atomic_load(&turn) != 0)
        sched_yield();
}

static void start_turns(void *p)
{
    pthread_t thread;
    freed_in_turn = p;
    for (uintptr_t i = 1; i <= 2; i++)
        REQUIRE(pthread_create(&thread, NULL, free_at_turn, (void *)i) == 0);
}

static void free_there_and_here(void *p)
{
    start_turns(p);
    let_free(1);
    free(p);
}

static void free_here_and_there(void *p)
{
    start_turns(p);
    free(p);
    let_free(1);
}

static void free_there_twice(void *p)
{
    start_turns(p);
    let_free(1);
    let_free(2);
}

CASE_OURS(misuse_double_free_by_another_thread, "freed by another thread first, then by its owner")
{
    require_abort_of_slots(free_there_and_here, "double free");
}

CASE_OURS(misuse_double_free_owner_first, "freed by its owner first, then by another thread")
{
    require_abort_of_slots(free_here_and_there, "double free");
}

CASE_OURS(misuse_double_free_by_two_threads, "freed by two other threads")
{
    require_abort_of_slots(free_there_twice, "double free");
}

/* Every way to hand in a pointer that is none of the heap's. */
static void require_abort_by_all(void *bad)
{
    require_abort(free_it, bad, "free", bad);
    require_abort(realloc_it, bad, NULL, bad);
    require_abort(realloc_it_to_zero, bad, NULL, bad);
    require_abort(usable_size_of_it, bad, NULL, bad);
}

CASE_OURS(misuse_pointer_inside_a_slot, "an address inside a block, not its start: abort")
{
    static const size_t offsets[] = {1, 8, 16, 64, 4096};
    FOR_EACH (i, slot_sizes) {
        char *p = must_malloc(slot_sizes[i]);
        FOR_EACH (j, offsets) {
            if (offsets[j] < malloc_usable_size(p)) require_abort_by_all(p + offsets[j]);
        }
        free(p);
    }
}

CASE_OURS(misuse_pointer_inside_a_large_block, "an address inside a large or huge block: abort")
{
    static const size_t offsets[] = {1, 16, 4096, 8192, (size_t)64 << 10};
    FOR_EACH (i, large_sizes) {
        char *p = must_malloc(large_sizes[i]);
        FOR_EACH (j, offsets)
            require_abort_by_all(p + offsets[j]);
        require_abort_by_all(p + large_sizes[i] / 2);
        require_abort_by_all(p + large_sizes[i] - 1);
        free(p);
    }
}

CASE_OURS(misuse_pointer_to_stack, "an address of the stack: abort")
{
    char on_stack[64] __attribute__((aligned(16)));
    require_abort_by_all(hide(on_stack));
    require_abort_by_all(hide(on_stack + 8));
}

CASE_OURS(misuse_pointer_to_global, "an address of a global, a constant, a function: abort")
{
    static char global[64] __attribute__((aligned(16)));
    static const char constant[64] __attribute__((aligned(16))) = "constant";
    require_abort_by_all(hide(global));
    require_abort_by_all(hide((void *)(uintptr_t)constant));
    require_abort_by_all((void *)(uintptr_t)free_it);
}

CASE_OURS(misuse_pointer_to_mapping, "an address of the program's own mapping: abort")
{
    size_t size = (size_t)64 << 20;
    char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(map != MAP_FAILED);
    require_abort_by_all(map);
    require_abort_by_all(map + size / 2);
    REQUIRE(mprotect(map, size, PROT_NONE) == 0);
    require_abort_by_all(map + 4096);
    REQUIRE(munmap(map, size) == 0);
    require_abort_by_all(map);
    require_abort_by_all(map + size / 2);
}

CASE_OURS(misuse_wild_pointer, "unmapped, kernel and non-canonical addresses: abort")
{
    static const uintptr_t wild[] = {1,
                                     8,
                                     16,
                                     4096,
                                     0x10000,
                                     0x123456789000,
                                     0x7ffffffff000,
                                     0x800000000000,
                                     0x8000000000000000,
                                     0xdeadbeefdeadbee0,
                                     0x4141414141414140,
                                     0xffff800000000000,
                                     0xffffffffff600000,
                                     UINTPTR_MAX & ~(uintptr_t)15,
                                     UINTPTR_MAX};
    FOR_EACH (i, wild)
        require_abort_by_all((void *)wild[i]);
}

CASE_OURS(misuse_pointer_past_the_blocks, "a never handed out slot of a span in use: abort")
{
    FOR_EACH (i, slot_sizes) {
        if (slot_sizes[i] > 128) break;
        char *p = must_malloc(slot_sizes[i]), *beyond = p;
        /* The farthest of a few blocks; twenty more slots on there is none. */
        for (int k = 0; k < 5; k++) {
            char *q = must_malloc(slot_sizes[i]);
            if (q > beyond) beyond = q;
        }
        beyond += 20 * malloc_usable_size(p);
        require_abort(free_it, beyond, NULL, beyond);
    }
}

static void realloc_after_free(void *p)
{
    free(p);
    (void)!realloc(p, 10);
}

static void usable_size_after_free(void *p)
{
    free(p);
    (void)!malloc_usable_size(p);
}

CASE_OURS(misuse_realloc_after_free, "realloc of a freed block aborts")
{
    require_abort_of_slots(realloc_after_free, NULL);
    FOR_EACH (i, large_sizes) {
        void *p = must_malloc(large_sizes[i]);
        require_abort(realloc_after_free, p, NULL, p);
        require_abort(usable_size_after_free, p, NULL, p);
        free(p);
    }
}

static void free_old_after_realloc(void *p)
{
    void *moved = realloc(p, (size_t)8 << 20);
    /* What grew in place has no old block: fail as the case wants to see it fail. */
    if (moved == p) free(moved);
    free(p);
}

CASE_OURS(misuse_free_of_the_old_block_after_realloc, "the block realloc moved away from is freed: "
                                                      "abort")
{
    require_abort_of_slots(free_old_after_realloc, NULL);
}

static void free_aligned_interior(void *p)
{
    free((char *)p + 4096);
}

CASE_OURS(misuse_of_aligned_blocks, "double and interior frees of aligned blocks abort")
{
    for (size_t alignment = 64; alignment <= (size_t)4 << 20; alignment *= 4) {
        char *p = memalign(alignment, 20000);
        REQUIRE(p);
        require_abort(free_twice, p, NULL, p);
        require_abort(free_aligned_interior, p, NULL, p + 4096);
        free(p);
    }
}

/* The report must not need what a thread in a bad place lacks: a big stack, a free descriptor. */
static void free_twice_without_descriptors(void *p)
{
    for (int fd = 3; fd < 256; fd++)
        close(fd);
    close(0);
    close(1);
    free_twice(p);
}

CASE_OURS(misuse_is_reported_without_descriptors, "the report needs descriptor 2 only")
{
    void *p = must_malloc(100);
    require_abort(free_twice_without_descriptors, p, "double free", p);
    free(p);
}

static void *free_twice_in_thread(void *p)
{
    free_twice(p);
    return NULL;
}

static void free_twice_on_a_small_stack(void *p)
{
    run_thread(free_twice_in_thread, p, 16384);
}

CASE_OURS(misuse_is_reported_on_a_small_stack, "the report fits a stack of 16 KiB")
{
    void *p = must_malloc(100);
    require_abort(free_twice_on_a_small_stack, p, "double free", p);
    free(p);
}

CASE(double_free_dies_on_glibc_too, "a block freed twice does not go unnoticed; malloc(3) NOTES")
{
    void *p = must_malloc(24);
    int status = in_child(free_twice, p);
    REQUIRE(status != 0);
}
