/* SPDX-License-Identifier: MIT */
/* The life of a region's file: forked children, the end of its process, limits, folders that are
 * broken or full. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "numbered.h"
#include "small_fs.h"

enum { THREADS = 4 };

/* -- forked children ----------------------------------------------------------------------- */

struct held {
    uint64_t tag, usable, requested;
};

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
        if (held[i].tag) mc_trace_count_out(held[i].tag, held[i].usable, held[i].requested);
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
    int error = mc_region_create_forked(&options, &failed);
    mc_trace_after_fork(error);
    for (unsigned i = 0; i < HELD && !error; i++) {
        if (held[i].tag) mc_trace_recount(held[i].tag, held[i].usable, held[i].requested, 0);
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
            REQUIRE(record->word && !(record->word >> 31));
            REQUIRE(mc_frames_outward(frame) < frame);
            frame = mc_frames_outward(frame);
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

/* Short paths and long ones are kept in places of their own. */
static void long_folders(void)
{
    enum { LONGEST = 200 };
    char path[LONGEST + 1];
    make_folder();
    for (size_t length = strlen(folder); length <= LONGEST; length++) {
        memset(path, '/', length); /* which names the same folder */
        memcpy(path, folder, strlen(folder));
        path[length] = 0;
        REQUIRE_EQUAL(create_in(path), 0);
        REQUIRE(exists(getpid()));
        mc_region_remove();
        REQUIRE(!exists(getpid()));
    }
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

static void read_only(void)
{
    mount_small("size=1m");
    REQUIRE(!mount("none", folder, "tmpfs", MS_REMOUNT | MS_RDONLY, 0));
    REQUIRE_EQUAL(create_in(folder), EROFS);
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
    {"region_fork_copies", fork_copies, 0},
    {"region_fork_busy", fork_busy, 480},
    {"region_fork_fails", fork_fails, 0},
    {"region_fork_shares_nothing", fork_shares_nothing, 0},
    {"region_vfork_exit", vfork_exit, 0},
    {"region_kept_at_exit", kept_at_exit, 0},
    {"region_earlier_process", earlier_process, 0},
    {"region_file_size_limit", file_size_limit, 0},
    {"region_file_size_none", file_size_none, 0},
    {"region_long_folders", long_folders, 0},
    {"region_broken_folders", broken_folders, 0},
    {"region_read_only", read_only, 0},
    {"region_full_folder", full_folder, 0},
    {"region_fills_up", fills_up, 0},
    {"region_fork_in_full", fork_in_full, 0},
};
TEST_MAIN(cases)
