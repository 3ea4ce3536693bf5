/* SPDX-License-Identifier: MIT */
/* The region and what is counted in it: index, stacks, counters, folder, forked children. The heap
 * has no part in this; a test keeps the tags itself. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "index.h"
#include "stacks.h"
#include "traced.h"

enum { THREADS = 4 };

static void together(void *(*function)(void *))
{
    pthread_t threads[THREADS];
    for (uint64_t i = 0; i < THREADS; i++)
        REQUIRE(!pthread_create(&threads[i], 0, function, (void *)i));
    for (unsigned i = 0; i < THREADS; i++)
        REQUIRE(!pthread_join(threads[i], 0));
}

/* -- index --------------------------------------------------------------------------------- */

enum { KEYS = 30000, KEY_IDS = KEYS * 4 };
static struct mc_index keys_index;
static uint64_t keys_of[KEY_IDS]; /* by id */
static uint32_t next_id = 1;

static int key_matches(uint32_t id, const void *key)
{
    REQUIRE(id < KEY_IDS);
    return mc_load_acquire(&keys_of[id]) == *(const uint64_t *)key;
}

/* The bits that choose the place in a table may be poor: then keys get in each other's way. */
static uint64_t poor_bits = 15ull << MC_INDEX_ID_BITS;

static uint64_t hash_of_key(uint64_t key)
{
    return mc_hash_mix(key, 99) & ~poor_bits;
}

static uint32_t id_of_key(uint64_t key)
{
    uint32_t id = mc_index_find(&keys_index, hash_of_key(key), key_matches, &key);
    if (id) {
        REQUIRE_EQUAL(keys_of[id], key);
        return id;
    }
    id = mc_add(&next_id, 1);
    REQUIRE(id < KEY_IDS);
    mc_store_release(&keys_of[id], key);
    mc_index_add(&keys_index, hash_of_key(key), id);
    return id;
}

static void *look_up(void *argument)
{
    struct random random = test_random((uint64_t)argument);
    for (uint64_t i = 0; i < test_scale(400000); i++)
        id_of_key(1 + random_below(&random, KEYS));
    return 0;
}

/* Tables that are outgrown are emptied meanwhile, and nothing gets lost on the way. */
static void index_grows(void)
{
    poor_bits = 0;
    for (uint64_t key = 1; key <= KEYS; key++) {
        REQUIRE_EQUAL(id_of_key(key), key);
        REQUIRE(keys_index.oldest <= keys_index.newest &&
                keys_index.newest - keys_index.oldest <= 1);
        REQUIRE_EQUAL(id_of_key(1 + key / 2), 1 + key / 2);
    }
    REQUIRE(keys_index.newest > 3);
    for (uint64_t key = 1; key <= KEYS; key++)
        REQUIRE_EQUAL(id_of_key(key), key);
}

static void index_threads(void)
{
    together(look_up);
    for (uint64_t key = 1; key <= KEYS; key++) {
        uint32_t id = id_of_key(key);
        REQUIRE_EQUAL(id_of_key(key), id);
    }
    /* Two threads may both have added a key; that is rare. */
    REQUIRE(next_id - 1 >= KEYS && next_id - 1 < KEYS + KEYS / 10);
}

/* Backtrace `number`: outer frames shared with its neighbours, as in programs. */
static uint32_t make_stack(uint64_t number, uint64_t *pcs)
{
    uint32_t depth = 2 + number % 9;
    for (uint32_t i = 0; i < depth; i++)
        pcs[depth - 1 - i] = 0x1000 + 64 * i + (number >> (depth - 1 - i)) * 0x10000;
    return depth;
}

/* One object more, or less, in the row of a stack. */
static uint32_t count_in(unsigned thread, uint32_t stack, uint64_t requested, uint64_t usable)
{
    return mc_counters_in(thread, stack, (struct mc_amount){1, requested, usable});
}

static void count_out(unsigned thread, uint32_t stack, uint64_t requested, uint64_t usable,
                      uint64_t lifetime)
{
    mc_counters_out(thread, stack, (struct mc_amount){1, requested, usable},
                    (struct mc_life){lifetime, lifetime < 2});
}

static uint32_t intern_frames(const uint64_t *pcs, uint32_t depth, uint32_t flags)
{
    return mc_stacks_intern(pcs, depth, flags, (struct mc_stack_alike){0});
}

static uint32_t intern(uint64_t number)
{
    uint64_t pcs[16];
    uint32_t depth = make_stack(number, pcs);
    return intern_frames(pcs, depth, 0);
}

static void check_frames(uint32_t id, const uint64_t *pcs, uint32_t depth)
{
    REQUIRE(id >= MC_STACK_FIRST &&
            id < mc_load_acquire(&mc_own_region.areas[MC_AREA_STACKS].count));
    const struct mc_region_stack *stack = mc_area_record(MC_AREA_STACKS, id);
    REQUIRE_EQUAL(stack->depth, depth);
    uint32_t frame = stack->frame;
    for (uint32_t i = 0; i < depth; i++) {
        const struct mc_region_frame *record = mc_area_record(MC_AREA_FRAMES, frame);
        REQUIRE(frame && frame < mc_load_acquire(&mc_own_region.areas[MC_AREA_FRAMES].count));
        REQUIRE_EQUAL(record->pc, pcs[i]);
        frame = record->parent;
    }
    REQUIRE_EQUAL(frame, 0);
}

static void check_stack(uint32_t id, uint64_t number)
{
    uint64_t pcs[16];
    uint32_t depth = make_stack(number, pcs);
    check_frames(id, pcs, depth);
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
    REQUIRE(mc_own_region.areas[MC_AREA_FRAMES].count < 3 * COUNT); /* outer frames are shared */
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
        REQUIRE_EQUAL(mc_own_region.areas[MC_AREA_FRAMES].count, frames + NEW);
        check_frames(id, other, NEW + shared);
        other[NEW] ^= 0x100000; /* where they should meet, if they do */
        id = mc_stacks_intern(other, NEW + shared, 0, (struct mc_stack_alike){before, shared});
        check_frames(id, other, NEW + shared);
    }
    uint32_t more = intern_frames(other, NEW, 0); /* which has no such frame */
    uint32_t id = mc_stacks_intern(pcs, DEPTH - 1, 0, (struct mc_stack_alike){more, DEPTH - 2});
    check_frames(id, pcs, DEPTH - 1);
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
    unsigned shards[THREADS] = {1, 7, 8, 4000}; /* of their own, and two that share */
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

struct held {
    uint64_t tag, usable, requested;
};

static void tags(void)
{
    trace(64 << 20);
    uint64_t before = sum_of_all().allocs;
    uint64_t small = mc_trace_count_in(1, 0, 112, 100, 0),
             large = mc_trace_count_in(9, 0, 1 << 20, 999999, 1);
    REQUIRE(small && large && mc_tag_slack(small) == 12 && mc_tag_slack(large) == 0);
    REQUIRE_EQUAL(sum_of_all().allocs, before + 2);
    REQUIRE_EQUAL(sum_of_all().bytes_in, 100 + 999999);
    mc_trace_count_out(3, small, 112, MC_REQUESTED_IN_TAG);
    REQUIRE_EQUAL(sum_of_all().bytes_out, 100);
    REQUIRE_EQUAL(sum_of_all().usable_out, 112);
    mc_trace_count_undo(9, large, 1 << 20, 999999);
    struct mc_region_counters sum = sum_of_all();
    REQUIRE(sum.bytes_in == sum.bytes_out && sum.usable_in == sum.usable_out);
    REQUIRE_EQUAL(mc_own_region.untagged_allocs, 1);
}

/* -- forked children ----------------------------------------------------------------------- */

enum { HELD = 3000 };
static struct held held[HELD];
static uint32_t held_end; /* stacks of held objects are below */

static void hold_some(void)
{
    struct random random = test_random(80);
    for (unsigned i = 0; i < HELD; i++) {
        uint64_t usable = 16 * (1 + random_below(&random, 1000));
        uint64_t slack = random_below(&random, 16);
        uint32_t stack = intern(i % 700);
        count_in(i % 10, stack, usable - slack, usable);
        held[i] = (struct held){mc_tag_make(stack, slack, 0), usable, MC_REQUESTED_IN_TAG};
        held_end = stack >= held_end ? stack + 1 : held_end;
    }
}

static void let_go(unsigned from, unsigned step)
{
    for (unsigned i = from; i < HELD; i += step) {
        if (held[i].tag) mc_trace_count_out(i % 11, held[i].tag, held[i].usable, held[i].requested);
        held[i].tag = 0;
    }
}

/* Per stack, what is live must be what is held. */
static void check_live(void)
{
    enum { STACKS = 4000 }; /* of those, that is; others were made later */
    static struct mc_region_counters live[STACKS];
    memset(live, 0, sizeof(live));
    for (unsigned i = 0; i < HELD; i++) {
        uint32_t stack = mc_tag_stack(held[i].tag);
        if (!held[i].tag) continue;
        REQUIRE(stack < STACKS);
        live[stack].allocs++;
        live[stack].usable_in += held[i].usable;
        live[stack].bytes_in += held[i].usable - mc_tag_slack(held[i].tag);
    }
    for (uint32_t stack = MC_STACK_FIRST; stack < STACKS; stack++) {
        if (stack >= mc_load_acquire(&mc_own_region.areas[MC_AREA_STACKS].count) ||
            stack >= held_end)
            break;
        struct mc_region_counters sum = sum_of(stack);
        REQUIRE_EQUAL(sum.allocs - sum.frees, live[stack].allocs);
        REQUIRE_EQUAL(sum.bytes_in - sum.bytes_out, live[stack].bytes_in);
        REQUIRE_EQUAL(sum.usable_in - sum.usable_out, live[stack].usable_in);
    }
}

static int become_child(void)
{
    const char *failed = "";
    unsigned thread = 1;
    int error = mc_region_create_forked(&options, &failed);
    mc_trace_after_fork(error);
    for (unsigned i = 0; i < HELD && !error; i++) {
        if (held[i].tag) mc_trace_recount(held[i].tag, held[i].usable, held[i].requested, &thread);
    }
    mc_os_fork_done();
    return error;
}

static void forked_copy(void *parent)
{
    REQUIRE_EQUAL(become_child(), 0);
    REQUIRE(exists(getpid()) && exists((pid_t)(uint64_t)parent));
    REQUIRE_EQUAL(mc_own_region.pid, getpid());
    REQUIRE_EQUAL(mc_own_region.parent_pid, (uint64_t)parent);
    check_live();
    for (uint64_t i = 0; i < 700; i++)
        check_stack(intern(i), i);
    let_go(0, 3);
    check_live();
    for (unsigned i = 0; i < HELD; i += 3) {
        uint32_t stack = intern(5000 + i); /* new ones of its own */
        count_in(i % 10, stack, 10, 16);
        held[i] = (struct held){mc_tag_make(stack, 6, 0), 16, MC_REQUESTED_IN_TAG};
        held_end = stack >= held_end ? stack + 1 : held_end;
    }
    check_live();
    let_go(0, 1);
    check_live();
    mc_region_remove();
    REQUIRE(!exists(getpid()) && exists((pid_t)(uint64_t)parent));
}

static int in_child(void (*function)(void *), char *text, size_t size)
{
    int status = test_in_child(function, (void *)(uint64_t)getpid(), text, size);
    fputs(text, stderr);
    return status;
}

static void fork_copies(void)
{
    char text[1024];
    trace(64 << 20);
    hold_some();
    let_go(1, 5);
    check_live();
    for (unsigned i = 0; i < 3; i++) {
        REQUIRE_EQUAL(in_child(forked_copy, text, sizeof(text)), 0);
        REQUIRE(exists(getpid()) && mc_own_region.pid == (uint32_t)getpid());
        check_live(); /* the parent's numbers are its own */
        let_go(i, 7);
    }
}

static int fork_stop; /* [shared] */

static void *intern_always(void *argument)
{
    unsigned number = (unsigned)(uint64_t)argument;
    for (uint64_t i = 0; !__atomic_load_n(&fork_stop, __ATOMIC_RELAXED); i++)
        count_in(number, intern(10000 + number + THREADS * (i % 4000)), 1, 1);
    return 0;
}

/* A record that was being written when the process forked is empty in the child; others are whole. */
static void check_records(void)
{
    for (uint32_t id = MC_STACK_FIRST; id < mc_own_region.areas[MC_AREA_STACKS].count; id++) {
        const struct mc_region_stack *stack = mc_area_record(MC_AREA_STACKS, id);
        uint32_t frame = stack->frame, depth = 0;
        while (frame && depth <= stack->depth) {
            REQUIRE(frame < mc_own_region.areas[MC_AREA_FRAMES].count);
            const struct mc_region_frame *record = mc_area_record(MC_AREA_FRAMES, frame);
            REQUIRE(record->parent < frame);
            frame = record->parent;
            depth++;
        }
        REQUIRE_EQUAL(depth, stack->depth);
    }
}

static void forked_busy(void *parent)
{
    REQUIRE_EQUAL(become_child(), 0);
    check_records();
    struct mc_region_counters sum = sum_of_all(); /* what nobody here holds is not counted */
    REQUIRE_EQUAL(sum.allocs - sum.frees, HELD);
    check_live();
    for (uint64_t i = 0; i < 2000; i++)
        count_in((unsigned)i % 10, intern(10000 + i), 1, 1);
    sum = sum_of_all();
    REQUIRE_EQUAL(sum.allocs - sum.frees, HELD + 2000);
    mc_region_remove();
    REQUIRE(exists((pid_t)(uint64_t)parent));
}

static void fork_busy(void)
{
    pthread_t threads[THREADS];
    char text[1024];
    trace(64 << 20);
    hold_some();
    for (uint64_t i = 0; i < THREADS; i++)
        REQUIRE(!pthread_create(&threads[i], 0, intern_always, (void *)i));
    for (uint64_t i = 0; i < test_scale(60); i++)
        REQUIRE_EQUAL(in_child(forked_busy, text, sizeof(text)), 0);
    __atomic_store_n(&fork_stop, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], 0);
}

static void forked_nothing(void *parent)
{
    struct rlimit none = {0, 0};
    REQUIRE(!setrlimit(RLIMIT_NOFILE, &none));
    REQUIRE(become_child() != 0);
    REQUIRE_EQUAL(mc_own_region.armed, 0);
    REQUIRE(!mc_trace_ready());
    let_go(0, 1); /* of no consequence to anybody */
    mc_region_remove();
    REQUIRE(exists((pid_t)(uint64_t)parent));
}

/* A child that can have no region leaves its parent's alone. */
static void fork_fails(void)
{
    char text[1024];
    trace(64 << 20);
    hold_some();
    REQUIRE_EQUAL(in_child(forked_nothing, text, sizeof(text)), 0);
    REQUIRE(exists(getpid()));
    check_live();
}

static void forked_abandons(void *parent)
{
    mc_region_abandon();
    mc_trace_after_fork(EPERM);
    mc_os_fork_done();
    REQUIRE(!mc_own_region.armed && !mc_trace_ready());
    let_go(0, 1);
    mc_region_remove();
    REQUIRE(exists((pid_t)(uint64_t)parent));
}

static void forked_exits(void *parent)
{
    mc_region_remove(); /* one that never needed a region */
    REQUIRE(exists((pid_t)(uint64_t)parent) && !mc_own_region.exited);
}

static void fork_shares_nothing(void)
{
    char text[1024];
    trace(64 << 20);
    hold_some();
    REQUIRE_EQUAL(in_child(forked_abandons, text, sizeof(text)), 0);
    REQUIRE_EQUAL(in_child(forked_exits, text, sizeof(text)), 0);
    REQUIRE(exists(getpid()) && mc_own_region.armed == MC_ARMED_TRACE);
    check_live();
}

/* A vfork(2) child shares memory, and is not the process: its end is not ours. */
static void vfork_exit(void)
{
    trace(64 << 20);
    pid_t child = vfork();
    if (!child) {
        mc_region_remove();
        _exit(0);
    }
    int status;
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child && !status);
    REQUIRE(exists(getpid()));
    REQUIRE_EQUAL(mc_own_region.exited, 0);
    mc_region_remove();
    REQUIRE(!exists(getpid()));
}

/* -- ends ---------------------------------------------------------------------------------- */

static void kept_at_exit(void)
{
    options.keep = 1;
    trace(1 << 20);
    mc_region_remove();
    REQUIRE(exists(getpid()));
    REQUIRE_EQUAL(mc_own_region.exited, MC_EXITED_KEPT);
}

/* What an earlier process of our pid left is kept, if it is a trace; else it goes. */
static void earlier_process(void)
{
    const char *failed;
    char kept[300];
    struct mc_region old = {.magic = MC_REGION_MAGIC,
                            .version = MC_REGION_VERSION,
                            .traced_since_ns = 1,
                            .start_boottime_ns = 1};
    make_folder();
    snprintf(kept, sizeof(kept), "%s.1", file_name(getpid()));
    for (unsigned traced = 0; traced < 2; traced++) {
        old.traced_since_ns = traced;
        FILE *file = fopen(file_name(getpid()), "w");
        REQUIRE(file && fwrite(&old, sizeof(old), 1, file) == 1 && !fclose(file));
        REQUIRE_EQUAL(mc_region_create(&options, &failed), 0);
        REQUIRE_EQUAL(!access(kept, F_OK), traced);
        mc_region_remove();
        REQUIRE(!exists(getpid()));
    }
}

/* -- limits and broken folders ------------------------------------------------------------- */

static void limit_file_size(uint64_t size)
{
    struct rlimit limit = {size, size};
    REQUIRE(!setrlimit(RLIMIT_FSIZE, &limit));
}

static void file_size_limit(void)
{
    struct stat status;
    make_folder();
    limit_file_size(1 << 20);
    const char *failed = "";
    REQUIRE_EQUAL(mc_region_create(&options, &failed), 0);
    REQUIRE(!stat(file_name(getpid()), &status) && status.st_size <= 1 << 20);
    REQUIRE(mc_trace_ready());
    for (uint64_t i = 0; i < 5000; i++)
        count_in(0, intern(i), 1, 1);
    REQUIRE_EQUAL(sum_of_all().allocs, 5000);
}

static void file_size_none(void)
{
    static const uint64_t sizes[] = {0, 1, 4095, 4096, 100000};
    make_folder();
    for (unsigned i = sizeof(sizes) / sizeof(*sizes); i-- > 0;) {
        const char *failed = "";
        mc_own_region.armed = MC_ARMED_TRACE;
        limit_file_size(sizes[i]);
        int error = mc_region_create(&options, &failed);
        REQUIRE_EQUAL(error != 0, sizes[i] < 4096);
        REQUIRE(!error || (*failed && !mc_own_region.armed && !exists(getpid())));
        REQUIRE(!mc_trace_ready()); /* too small for a table: untraced, that is all */
        mc_region_remove();
    }
}

static int create_in(const char *path)
{
    const char *failed = "";
    struct mc_region_options wrong = options;
    wrong.folder = path;
    mc_own_region.armed = MC_ARMED_TRACE;
    int error = mc_region_create(&wrong, &failed);
    REQUIRE(!error || (!mc_own_region.armed && *failed && !mc_trace_ready()));
    return error;
}

static void broken_folders(void)
{
    static char longest[5000];
    char path[300];
    make_folder();
    snprintf(path, sizeof(path), "%s/missing", folder);
    REQUIRE_EQUAL(create_in(path), ENOENT);
    snprintf(path, sizeof(path), "%s/file", folder);
    FILE *file = fopen(path, "w");
    REQUIRE(file && !fclose(file));
    REQUIRE_EQUAL(create_in(path), ENOTDIR);
    memset(longest, 'x', sizeof(longest) - 1);
    REQUIRE_EQUAL(create_in(longest), ENAMETOOLONG);
    memset(longest, 0, sizeof(longest));
    memset(longest, '/', 3000);
    REQUIRE(create_in(strcat(longest, "nowhere")) != 0);
    snprintf(path, sizeof(path), "%s/%d", folder, getpid());
    REQUIRE(!mkdir(path, 0700)); /* where the file would be */
    REQUIRE(create_in(folder) != 0);
    REQUIRE(!rmdir(path));
    REQUIRE_EQUAL(create_in(folder), 0);
}

/* A small file system of our own over the folder; skips where that is not allowed. */
static void mount_small(const char *how)
{
    make_folder();
    if (unshare(CLONE_NEWNS) || mount("none", "/", 0, MS_REC | MS_PRIVATE, 0) ||
        mount("none", folder, "tmpfs", 0, how))
        test_skip("no file system can be mounted here");
}

static void read_only(void)
{
    mount_small("size=1m");
    REQUIRE(!mount("none", folder, "tmpfs", MS_REMOUNT | MS_RDONLY, 0));
    REQUIRE_EQUAL(create_in(folder), EROFS);
}

/* Fills what is left of the file system. */
static void fill_up(void)
{
    char path[300];
    static char page[4096] = {1};
    snprintf(path, sizeof(path), "%s/filler", folder);
    FILE *file = fopen(path, "a");
    REQUIRE(file);
    setvbuf(file, 0, _IONBF, 0);
    while (fwrite(page, 1, sizeof(page), file) == sizeof(page)) {
    }
    fclose(file);
}

static void full_folder(void)
{
    const char *failed = "";
    mount_small("size=64k");
    fill_up();
    int error = mc_region_create(&options, &failed);
    REQUIRE_EQUAL(error, ENOSPC);
    REQUIRE(!exists(getpid()) && !mc_own_region.armed);
}

static void full_soon(void *how)
{
    const char *failed = "";
    uint64_t count = 0;
    mount_small(how);
    options.max_size = 256 << 20;
    if (mc_region_create(&options, &failed) || !mc_trace_ready()) return;
    for (; count < 30000; count++)
        count_in((unsigned)count % 12, intern(count), 3, 4);
    REQUIRE(mc_own_region.overflow_stacks > 0);
    REQUIRE_EQUAL(sum_of_all().allocs, count);
    REQUIRE_EQUAL(sum_of_all().bytes_in, 3 * count);
}

/* The file system fills up at some point of tracing: overflow, exact sums, no signal. */
static void fills_up(void)
{
    static const char *const sizes[] = {"size=8k",   "size=32k",  "size=64k", "size=100k",
                                        "size=200k", "size=500k", "size=2m"};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        char text[1024];
        int status = test_in_child(full_soon, (void *)sizes[i], text, sizeof(text));
        fputs(text, stderr);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
            test_skip("no file system can be mounted here");
        REQUIRE_EQUAL(status, 0);
    }
}

static void forked_in_full(void *parent)
{
    if (become_child()) {
        REQUIRE(!mc_own_region.armed);
    } else {
        fill_up();
        for (unsigned i = 0; i < 700; i++) /* of its parent's stacks, in every shard */
            count_in(i % 12, intern(i), 1, 1);
        for (unsigned i = 0; i < 700; i++)
            count_in(i % 12, intern(90000 + i), 1, 1);
        struct mc_region_counters sum = sum_of_all();
        REQUIRE_EQUAL(sum.allocs - sum.frees, HELD + 1400);
    }
    let_go(0, 1);
    mc_region_remove();
    REQUIRE(exists((pid_t)(uint64_t)parent));
}

/* A child's region on a file system that is full, or becomes so: at worst it is untraced. */
static void fork_in_full(void)
{
    char text[1024];
    mount_small("size=3m");
    const char *failed = "";
    options.max_size = 64 << 20;
    REQUIRE(!mc_region_create(&options, &failed) && mc_trace_ready());
    mc_os_fork_watch();
    hold_some();
    REQUIRE_EQUAL(in_child(forked_in_full, text, sizeof(text)), 0);
    fill_up();
    REQUIRE_EQUAL(in_child(forked_in_full, text, sizeof(text)), 0);
    check_live();
}

static const struct test_case cases[] = {
    {"index_grows", index_grows, 0},
    {"index_threads", index_threads, 0},
    {"stacks_alike", stacks_alike, 0},
    {"stacks", stacks, 0},
    {"stack_threads", stack_threads, 0},
    {"full_table", full_table, 0},
    {"counter_threads", counter_threads, 0},
    {"resets", resets, 0},
    {"tags", tags, 0},
    {"region_fork_copies", fork_copies, 0},
    {"region_fork_busy", fork_busy, 480},
    {"region_fork_fails", fork_fails, 0},
    {"region_fork_shares_nothing", fork_shares_nothing, 0},
    {"region_vfork_exit", vfork_exit, 0},
    {"region_kept_at_exit", kept_at_exit, 0},
    {"region_earlier_process", earlier_process, 0},
    {"region_file_size_limit", file_size_limit, 0},
    {"region_file_size_none", file_size_none, 0},
    {"region_broken_folders", broken_folders, 0},
    {"region_read_only", read_only, 0},
    {"region_full_folder", full_folder, 0},
    {"region_fills_up", fills_up, 0},
    {"region_fork_in_full", fork_in_full, 0},
};
TEST_MAIN(cases)
