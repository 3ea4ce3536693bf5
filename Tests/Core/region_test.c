/* SPDX-License-Identifier: MIT */
/* What the region keeps: stacks, counters, tags. The heap has no part in this; a test keeps the
 * tags itself. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "numbered.h"

enum { THREADS = 4 };

static void together(void *(*function)(void *))
{
    pthread_t threads[THREADS];
    for (uint64_t i = 0; i < THREADS; i++)
        REQUIRE(!pthread_create(&threads[i], 0, function, (void *)i));
    for (unsigned i = 0; i < THREADS; i++)
        REQUIRE(!pthread_join(threads[i], 0));
}

static void count_out(unsigned shard, uint32_t stack, uint64_t requested, uint64_t usable,
                      uint64_t lifetime)
{
    mc_counters_out(shard, stack, (struct mc_amount){1, requested, usable},
                    (struct mc_life){lifetime, lifetime < 2});
}

/* -- stacks -------------------------------------------------------------------------------- */

static void stacks(void)
{
    enum { COUNT = 20000 };
    static uint32_t ids[COUNT];
    static uint8_t seen[COUNT + 100];
    trace(64 << 20);
    for (uint64_t i = 0; i < COUNT; i++) {
        ids[i] = intern(i);
        REQUIRE(ids[i] < COUNT + 100);
        REQUIRE(!seen[ids[i]]++); /* another stack, another id */
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        REQUIRE_EQUAL(intern(i), ids[i]);
        check_stack(ids[i], i);
    }
    REQUIRE_EQUAL(mc_own_region.areas[MC_AREA_STACKS].count, COUNT + MC_STACK_FIRST);
    REQUIRE_EQUAL(mc_own_region.overflow_stacks, 0);
    /* Outer frames are shared; a link a stack is the most there can be. */
    REQUIRE(mc_own_region.areas[MC_AREA_FRAMES].count < 4 * COUNT);
    uint64_t pcs[256];
    for (unsigned i = 0; i < 256; i++)
        pcs[i] = 0x7000000 + i;
    uint32_t cut = intern_frames(pcs, 256, MC_STACK_CUT);
    REQUIRE(cut != intern_frames(pcs, 256, 0) && cut != intern_frames(pcs, 255, MC_STACK_CUT));
    REQUIRE_EQUAL(mc_own_region.cut_stacks, 2);
    REQUIRE(intern_frames(pcs, 0, MC_STACK_STOPPED) >= MC_STACK_FIRST); /* of no frames at all */
}

/* Stacks that are said to share outer frames with another: only the others are looked for, and what
 * is not so is not believed. */
static void stacks_alike(void)
{
    enum { DEPTH = 16, NEW = 3 };
    uint64_t pcs[DEPTH], other[DEPTH + NEW];
    trace(64 << 20);
    for (unsigned i = 0; i < DEPTH; i++)
        pcs[i] = 0x5000000 + i;
    uint32_t before = intern_frames(pcs, DEPTH, 0);
    for (uint32_t shared = 0; shared <= DEPTH; shared++) {
        for (uint32_t i = 0; i < NEW; i++)
            other[i] = 0x6000000 + NEW * shared + i;
        memcpy(other + NEW, pcs + DEPTH - shared, shared * sizeof(*pcs));
        uint64_t frames = mc_own_region.areas[MC_AREA_FRAMES].count;
        uint32_t id =
            mc_stacks_intern(other, NEW + shared, 0, (struct mc_stack_alike){before, shared});
        REQUIRE_EQUAL(mc_own_region.areas[MC_AREA_FRAMES].count, frames + NEW + 1); /* and a link */
        check_frames(id, other, NEW + shared);
        other[NEW] ^= 0x100000; /* where they should meet, if they do */
        id = mc_stacks_intern(other, NEW + shared, 0, (struct mc_stack_alike){before, shared});
        check_frames(id, other, NEW + shared);
    }
    uint32_t more = intern_frames(other, NEW, 0); /* which has no such frame */
    uint32_t id = mc_stacks_intern(pcs, DEPTH - 1, 0, (struct mc_stack_alike){more, DEPTH - 2});
    check_frames(id, pcs, DEPTH - 1);
}

/* All paths through two neighbouring calls: as many frames as there are in the tree, and no more, and a link a
 * path. */
static void frames_are_shared(void)
{
    enum { DEPTH = 15 };
    static const uint64_t calls[2] = {0x5609abcd1234, 0x5609abcd1278};
    uint64_t pcs[DEPTH];
    trace(64 << 20);
    uint64_t before = mc_own_region.areas[MC_AREA_FRAMES].count;
    for (uint32_t turns = 0; turns < 1u << DEPTH; turns++) {
        for (unsigned i = 0; i < DEPTH; i++)
            pcs[DEPTH - 1 - i] = calls[turns >> i & 1];
        check_frames(intern_frames(pcs, DEPTH, 0), pcs, DEPTH);
    }
    REQUIRE_EQUAL(mc_own_region.areas[MC_AREA_FRAMES].count - before, (3u << DEPTH) - 2);
}

/* Frames that were met together need no place in the index: it has one a stack. */
static void frames_in_a_row(void)
{
    enum { DEPTH = 100, COUNT = 2000 };
    uint64_t pcs[DEPTH];
    trace(64 << 20);
    uint64_t before = mc_own_region.own_bytes, frames = mc_own_region.areas[MC_AREA_FRAMES].count;
    for (uint64_t again = 0; again < 2; again++) {
        for (uint64_t i = 0; i < COUNT; i++) {
            for (unsigned k = 0; k < DEPTH; k++)
                pcs[k] = 0x5000000 + i * DEPTH + k;
            uint32_t id = intern_frames(pcs, DEPTH, 0);
            check_frames(id, pcs, DEPTH);
            /* The inner frames' own stack: found one by one, from the outside in. */
            if (again) check_frames(intern_frames(pcs + 1, DEPTH - 1, 0), pcs + 1, DEPTH - 1);
        }
    }
    REQUIRE_EQUAL(mc_own_region.areas[MC_AREA_FRAMES].count, frames + COUNT * (DEPTH + 1));
    REQUIRE(mc_own_region.own_bytes - before < 64 * COUNT);
}

/* Of addresses that no code has, and of more windows than there is room for: frames are as others are, and their
 * addresses those that a record can hold. */
static void frames_of_nonsense(void)
{
    static const uint64_t pcs[] = {
        UINT64_MAX,         1ull << 63, 0x5000123, 1ull << 63 | 7,     0, 0xffffffffff600000,
        0xff123456789abcde, 0x5000456,  1,         0x00ffffffffffffff, 27};
    enum { DEPTH = sizeof(pcs) / sizeof(pcs[0]), FAR = 40 };
    uint64_t far[FAR];
    trace(64 << 20);
    for (uint32_t from = 0; from < DEPTH; from++) {
        uint32_t id = intern_frames(pcs + from, DEPTH - from, 0);
        REQUIRE_EQUAL(intern_frames(pcs + from, DEPTH - from, 0), id);
        check_frames(id, pcs + from, DEPTH - from);
    }
    for (uint64_t i = 0; i < FAR; i++)
        far[i] = (i * 37 % FAR) << 40 | i << 27;
    for (uint32_t from = 0; from < FAR; from++) {
        check_frames(intern_frames(far + from, FAR - from, 0), far + from, FAR - from);
        check_frames(intern_frames(far, FAR - from, 0), far, FAR - from);
        REQUIRE_EQUAL(intern_frames(far, FAR - from, 0), intern_frames(far, FAR - from, 0));
    }
    check_frames(intern_frames(far, FAR, 0), far, FAR);
}

/* Threads that meet windows and frames at once agree on what they are. */
static void *meet_windows(void *argument)
{
    struct random random = test_random((uint64_t)argument);
    uint64_t pcs[8];
    for (uint64_t i = 0; i < test_scale(8000); i++) {
        uint32_t depth = 1 + (uint32_t)random_below(&random, 8);
        for (uint32_t k = 0; k < depth; k++)
            pcs[k] = random_below(&random, 24) << MC_FRAME_SHIFT | random_below(&random, 3);
        check_frames(intern_frames(pcs, depth, 0), pcs, depth);
    }
    return 0;
}

static void windows_threads(void)
{
    trace(512 << 20);
    together(meet_windows);
    for (unsigned i = 0; i < MC_FRAME_WINDOWS; i++)
        for (unsigned k = 0; k < i; k++)
            REQUIRE(mc_own_region.frame_windows[i] != mc_own_region.frame_windows[k]);
}

static void *intern_many(void *argument)
{
    struct random random = test_random((uint64_t)argument);
    for (uint64_t i = 0; i < test_scale(100000); i++) {
        uint64_t number = random_below(&random, 5000);
        uint32_t id = intern(number);
        check_stack(id, number);
        count_in((unsigned)(uint64_t)argument, id, number, number + 1);
    }
    return 0;
}

static void stack_threads(void)
{
    trace(64 << 20);
    together(intern_many);
    uint64_t count = mc_own_region.areas[MC_AREA_STACKS].count - MC_STACK_FIRST;
    REQUIRE(count <= 5500); /* few were made twice */
    REQUIRE_EQUAL(sum_of_all().allocs, THREADS * test_scale(100000));
    for (uint64_t i = 0; i < 5000; i++)
        REQUIRE_EQUAL(intern(i), intern(i));
}

/* A full table: what does not fit is counted under stack 1, and all sums stay exact. */
static void full_table(void)
{
    trace(1 << 20);
    uint64_t capacity = mc_own_region.areas[MC_AREA_STACKS].capacity, overflows = 0;
    uint64_t count = 3 * capacity;
    REQUIRE(capacity > 100);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t id = intern(i);
        overflows += id == MC_STACK_OVERFLOW;
        count_in((unsigned)i % 12, id, i, i + 5);
    }
    REQUIRE(overflows >= count - capacity);
    REQUIRE_EQUAL(mc_own_region.overflow_stacks, overflows);
    REQUIRE_EQUAL(sum_of(MC_STACK_OVERFLOW).allocs, overflows);
    REQUIRE_EQUAL(sum_of_all().allocs, count);
    REQUIRE_EQUAL(sum_of_all().bytes_in, count * (count - 1) / 2);
    REQUIRE_EQUAL(sum_of_all().usable_in, count * (count - 1) / 2 + 5 * count);
    for (uint64_t i = 0; i < 100; i++) /* the early ones are known as before */
        check_stack(intern(i), i);
}

/* -- counters ------------------------------------------------------------------------------ */

enum { COUNTED = 50 };
static uint32_t counted[COUNTED];
static struct mc_region_counters wanted[THREADS][COUNTED];

static void *count(void *argument)
{
    uint64_t number = (uint64_t)argument;
    struct random random = test_random(number);
    unsigned shards[THREADS] = {1, 7, 0, 0}; /* of their own, and one that two share */
    for (uint64_t i = 0; i < test_scale(300000); i++) {
        uint64_t which = random_below(&random, COUNTED), size = random_below(&random, 10000);
        struct mc_region_counters *mine = &wanted[number][which];
        if (random_below(&random, 2)) {
            count_in(shards[number], counted[which], size, size + 7);
            mine->allocs++;
            mine->bytes_in += size;
            mine->usable_in += size + 7;
        } else {
            uint64_t lifetime = size % 5;
            count_out(shards[number], counted[which], size, size + 3, lifetime);
            mine->frees++;
            mine->bytes_out += size;
            mine->usable_out += size + 3;
            mine->lifetimes += lifetime;
            mine->temporary += lifetime < 2;
        }
    }
    return 0;
}

static void counter_threads(void)
{
    trace(64 << 20);
    for (unsigned i = 0; i < COUNTED; i++)
        counted[i] = intern(i);
    together(count);
    for (unsigned i = 0; i < COUNTED; i++) {
        struct mc_region_counters sum = {0}, got = sum_of(counted[i]);
        for (unsigned k = 0; k < THREADS; k++) {
            sum.allocs += wanted[k][i].allocs;
            sum.frees += wanted[k][i].frees;
            sum.bytes_in += wanted[k][i].bytes_in;
            sum.bytes_out += wanted[k][i].bytes_out;
            sum.usable_in += wanted[k][i].usable_in;
            sum.usable_out += wanted[k][i].usable_out;
            sum.lifetimes += wanted[k][i].lifetimes;
            sum.temporary += wanted[k][i].temporary;
        }
        REQUIRE(!memcmp(&sum, &got, sizeof(sum)));
    }
}

/* -- resets -------------------------------------------------------------------------------- */

/* A reset ends every row; stacks seen again get fresh ones, and are known by those, however often
 * that happens. */
static void resets(void)
{
    trace(64 << 20);
    uint64_t own_bytes = 0;
    for (unsigned reset = 0; reset < 1500; reset++) {
        uint32_t floor = (uint32_t)mc_own_region.areas[MC_AREA_STACKS].count;
        mc_region_store(&mc_own_region.floor, floor);
        for (uint64_t i = 0; i < 20; i++) {
            uint32_t id = intern(i);
            REQUIRE(id >= floor);
            REQUIRE_EQUAL(intern(i), id);
        }
        REQUIRE_EQUAL(mc_own_region.areas[MC_AREA_STACKS].count, floor + 20);
        if (reset == 100) own_bytes = mc_own_region.own_bytes;
    }
    REQUIRE(mc_own_region.own_bytes <= 2 * own_bytes);
}

/* -- tags ---------------------------------------------------------------------------------- */

static void tags(void)
{
    trace(64 << 20);
    uint64_t before = sum_of_all().allocs;
    uint64_t small = mc_trace_count_in(1, 0, 112, 100, 0),
             large = mc_trace_count_in(9, 0, 1 << 20, 999999, 1);
    REQUIRE(small && large && mc_tag_slack(small) == 12 && mc_tag_slack(large) == 0);
    REQUIRE_EQUAL(sum_of_all().allocs, before + 2);
    REQUIRE_EQUAL(sum_of_all().bytes_in, 100 + 999999);
    mc_trace_count_out(small, 112, MC_REQUESTED_IN_TAG);
    REQUIRE_EQUAL(sum_of_all().bytes_out, 100);
    REQUIRE_EQUAL(sum_of_all().usable_out, 112);
    mc_trace_count_undo(large, 1 << 20, 999999);
    struct mc_region_counters sum = sum_of_all();
    REQUIRE(sum.bytes_in == sum.bytes_out && sum.usable_in == sum.usable_out);
    REQUIRE_EQUAL(mc_own_region.untagged_allocs, 1);
}

/* -- the first allocations ----------------------------------------------------------------- */

static uint32_t gate; /* [shared] */

static void *first_allocation(void *unused)
{
    while (!mc_load_acquire(&gate)) {
    }
    for (unsigned i = 0; i < 1000; i++)
        REQUIRE(mc_trace_ready());
    return unused;
}

static void open_gate(void *unused)
{
    make_region(64 << 20);
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        REQUIRE(!pthread_create(&threads[i], 0, first_allocation, unused));
    mc_store_release(&gate, 1);
    for (unsigned i = 0; i < THREADS; i++)
        REQUIRE(!pthread_join(threads[i], 0));
    REQUIRE_EQUAL(mc_own_region.untagged_allocs, 0);
    mc_region_remove();
}

/* Of threads that allocate at once when tracing begins, none goes unaccounted while one of them
 * makes the areas. */
static void ready_threads(void)
{
    char text[1024];
    for (uint64_t i = 0; i < test_scale(100); i++) {
        int status = test_in_child(open_gate, 0, text, sizeof(text));
        fputs(text, stderr);
        REQUIRE_EQUAL(status, 0);
    }
}

static void refuse_to_remap(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mremap, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof(code) / sizeof(*code), code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) _exit(77);
}

static void map_by_name(void *nameless)
{
    make_region(16 << 20);
    refuse_to_remap();
    if (nameless) REQUIRE(!unlink(file_name(getpid())));
    REQUIRE_EQUAL(mc_trace_ready(), !nameless);
    if (nameless) return;
    uint32_t stack = intern(1);
    count_in(1, stack, 10, 16);
    REQUIRE_EQUAL(sum_of(stack).usable_in, 16); /* in the file */
    mc_region_remove();
}

/* Where mappings can't be duplicated, as under valgrind, the file is mapped by its name. */
static void no_duplicates(void)
{
    char text[1024];
    for (uint64_t nameless = 0; nameless < 2; nameless++) {
        int status = test_in_child(map_by_name, (void *)nameless, text, sizeof(text));
        fputs(text, stderr);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77) test_skip("no seccomp filters here");
        REQUIRE_EQUAL(status, 0);
    }
}

static const struct test_case cases[] = {
    {"ready_threads", ready_threads, 0},
    {"no_duplicates", no_duplicates, 0},
    {"stacks_alike", stacks_alike, 0},
    {"stacks", stacks, 0},
    {"frames_are_shared", frames_are_shared, 0},
    {"frames_in_a_row", frames_in_a_row, 0},
    {"windows_threads", windows_threads, 0},
    {"frames_of_nonsense", frames_of_nonsense, 0},
    {"stack_threads", stack_threads, 0},
    {"full_table", full_table, 0},
    {"counter_threads", counter_threads, 0},
    {"resets", resets, 0},
    {"tags", tags, 0},
};
TEST_MAIN(cases)
