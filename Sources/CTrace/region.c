/* SPDX-License-Identifier: MIT */
/* See region.h. */
#define _GNU_SOURCE
#include "region.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "births.h"
#include "calls.h"
#include "folder.h"
#include "identity.h"
#include "os.h"
#include "own.h"
#include "shard.h"
#include "syscall.h"
#include "vdso.h"

_Alignas(MC_PAGE) union mc_control mc_control = {.region = {.armed = MC_ARMED_START}};

char *mc_areas;
static uint64_t file_size;  /* of the region this process mapped last */
static uint64_t areas_size; /* of what mc_areas maps */
uint32_t mc_area_runs;
static int keep_at_exit;

MC_TABLE uint64_t mc_area_populated[MC_AREA_PAGES_MAX / 64];
#define SIZE_MAX_TRACKED ((uint64_t)MC_AREA_PAGES_MAX * MC_PAGE)

static uint64_t read_ns(clockid_t clock)
{
    struct timespec now = {0};
    mc_clock(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* How long the machine had slept when the region was made. */
static uint64_t asleep_ns;

uint64_t mc_boottime_ns(void)
{
    return read_ns(CLOCK_BOOTTIME) + (mc_call_allowed(MC_CALL_CLOCK) ? 0 : asleep_ns);
}

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _end[] __attribute__((visibility("hidden")));

/* The first page of a region. */
union first_page {
    struct mc_region region;
    char bytes[MC_PAGE];
};

static int named_surely; /* [shared] 0 or 1; set by whoever comes first, to the same name */

static void describe(union first_page *page, const struct mc_region_options *options)
{
    struct mc_region *region = &page->region;
    memset(page, 0, sizeof(*page));
    region->armed = options->armed;
    region->direct = options->armed ? 0 : MC_REGION_DIRECT;
    region->depth = options->depth;
    region->sample = options->sample;
    region->magic = MC_REGION_MAGIC;
    region->version = MC_REGION_VERSION;
    region->shards = 1;
    region->pid = (uint32_t)MC_SYSCALL_1(SYS_getpid, 0);
    region->uid = (uint32_t)MC_SYSCALL_1(SYS_geteuid, 0);
    if (mc_call_allowed(MC_CALL_CLOCK)) asleep_ns = mc_boottime_ns() - read_ns(CLOCK_MONOTONIC);
    region->start_boottime_ns = mc_boottime_ns();
    region->births_from_ns = mc_births_from(region->start_boottime_ns);
    region->start_realtime_ns = read_ns(CLOCK_REALTIME);
    region->heap_root = options->heap_root;
    region->own_lists = (uint64_t)&mc_own_lists;
    region->library_start = (uint64_t)__ehdr_start;
    region->library_end = (uint64_t)_end;
    region->pid_namespace = mc_identity_pid_namespace(region->pid);
    int surely = options->armed || options->keep;
    mc_identity_name(region, surely);
    mc_store(&named_surely, surely);
}

void mc_region_name(void)
{
    if (mc_load(&named_surely) || !file_size || !mc_call_begin(MC_CALL_MAKE_FILE)) return;
    if (mc_folder_is_ours()) {
        mc_identity_name(&mc_own_region, 1);
        mc_store(&named_surely, 1);
    }
    mc_call_end();
}

/* Nothing is shared any more, or ever was: a private page that says so. */
static void go_private(void)
{
    if (!mc_call_allowed(MC_CALL_REPLACE)) return;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    MC_SYSCALL_6(SYS_mmap, &mc_control, MC_PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    mc_region_disarm(); /* if that failed, where the page is */
    file_size = 0;
}

static int map_over(const union first_page *made, const struct mc_region_options *options,
                    const char **failed)
{
    int descriptor;
    uint64_t size = mc_round_up(options->max_size, MC_PAGE);
    if (size > SIZE_MAX_TRACKED) size = SIZE_MAX_TRACKED;
    int error = mc_folder_make(options->folder, made, made->region.pid_namespace, &size,
                               &descriptor, failed);
    if (error) return error;
    int flags = MAP_SHARED | MAP_FIXED;
    long page =
        MC_SYSCALL_6(SYS_mmap, &mc_control, MC_PAGE, PROT_READ | PROT_WRITE, flags, descriptor, 0);
    error = mc_syscall_failed(page) ? (int)-page : 0;
    mc_folder_close(descriptor);
    if (error) {
        *failed = "the region can't be mapped";
        mc_folder_remove();
        return error;
    }
    file_size = size;
    keep_at_exit = options->keep;
    return 0;
}

int mc_region_create(const struct mc_region_options *options, const char **failed)
{
    union first_page made;
    int saved = errno;
    describe(&made, options);
    int error = map_over(&made, options, failed);
    if (error) mc_region_disarm();
    errno = saved;
    return error;
}

void mc_region_remove(void)
{
    if (!file_size || mc_os_forked()) return;
    if (!mc_call_allowed(MC_CALL_PID) || !mc_folder_is_ours()) return;
    if (keep_at_exit)
        __atomic_store_n(&mc_own_region.exited, MC_EXITED_KEPT, __ATOMIC_RELEASE);
    else if (!mc_call_allowed(MC_CALL_REMOVE_FILE) || mc_folder_remove())
        /* No longer allowed to: whoever comes by may. */
        __atomic_store_n(&mc_own_region.exited, MC_EXITED, __ATOMIC_RELEASE);
}

/* -- areas --------------------------------------------------------------------------------- */

/* Of so many bytes. A run costs room for stacks, and nothing else until somebody counts there. */
static uint32_t runs_for(uint64_t size)
{
    enum { LEAST = 8, BYTES_EACH = 64 << 20 };
    uint64_t runs = size / BYTES_EACH;
    if (runs < LEAST) return LEAST;
    return runs < MC_REGION_SHARDS ? (uint32_t)runs : MC_REGION_SHARDS;
}

/* Cuts `size` bytes into areas. The shares follow from what stacks need: a record, its counters in
 * every run and in common, its samples, and 24 frames of their own (stacks share their outer frames). */
static void lay_out(struct mc_region_area *areas, uint64_t size, uint32_t runs)
{
    enum { FRAMES_PER_STACK = 24, ROW_AND_TURNS = 2 };
    uint64_t per_stack =
        sizeof(struct mc_region_stack) + FRAMES_PER_STACK * sizeof(struct mc_region_frame) +
        runs * sizeof(struct mc_region_counters) + sizeof(struct mc_region_samples) +
        ROW_AND_TURNS * sizeof(struct mc_region_narrow) + sizeof(uint32_t);
    uint64_t modules = size / 64, strings = size / 32;
    if (modules > 4096 * sizeof(struct mc_region_module))
        modules = 4096 * sizeof(struct mc_region_module);
    if (strings > 1 << 20) strings = 1 << 20;
    uint64_t stacks = (size - modules - strings - (MC_AREA_COUNT + 1) * MC_PAGE) / per_stack;
    if (stacks >= 1u << MC_TAG_STACK_BITS) stacks = (1u << MC_TAG_STACK_BITS) - 1;
    const struct mc_region_area wanted[MC_AREA_COUNT] = {
        [MC_AREA_MODULES] = {0, sizeof(struct mc_region_module),
                             modules / sizeof(struct mc_region_module), 0},
        [MC_AREA_STRINGS] = {0, 1, strings, 0},
        [MC_AREA_FRAMES] = {0, sizeof(struct mc_region_frame), stacks * FRAMES_PER_STACK, 1},
        [MC_AREA_STACKS] = {0, sizeof(struct mc_region_stack), stacks, MC_STACK_FIRST},
        [MC_AREA_COUNTERS] = {0, sizeof(struct mc_region_counters), stacks, MC_STACK_FIRST},
        [MC_AREA_SAMPLES] = {0, sizeof(struct mc_region_samples), stacks, MC_STACK_FIRST},
        [MC_AREA_COMMON] = {0, sizeof(struct mc_region_narrow), stacks, 1},
        [MC_AREA_PLACES] = {0, sizeof(uint32_t), stacks, MC_STACK_FIRST},
    };
    uint64_t offset = MC_PAGE;
    for (unsigned i = 0; i < MC_AREA_COUNT; i++) {
        areas[i] = wanted[i];
        areas[i].offset = offset;
        uint64_t times = i == MC_AREA_COUNTERS ? runs : i == MC_AREA_COMMON ? ROW_AND_TURNS : 1;
        offset = mc_round_up(offset + areas[i].capacity * areas[i].record_size * times, MC_PAGE);
    }
}

/* Reserved and whole records differ while one is being written: `count` moves when it is whole. */
static uint64_t reserved[MC_AREA_COUNT];

static void begin_appending(void)
{
    for (unsigned i = 0; i < MC_AREA_COUNT; i++)
        mc_store(&reserved[i], mc_own_region.areas[i].count);
}

/* Of a limited address space, what the program can be supposed not to miss. */
static uint64_t size_to_map(void)
{
    enum { SHARE = 16 };
    struct rlimit limit;
    if (MC_SYSCALL_4(SYS_prlimit64, 0, RLIMIT_AS, 0, &limit) || limit.rlim_cur / SHARE >= file_size)
        return file_size;
    return limit.rlim_cur / SHARE & ~(uint64_t)(MC_PAGE - 1);
}

/* Of the file, opened again, where mappings can't be duplicated: valgrind doesn't know how to. */
static long map_file(uint64_t size)
{
    if (!mc_call_begin(MC_CALL_MAKE_FILE)) return -EPERM;
    int file = mc_folder_open();
    long mapped = file;
    if (file >= 0) {
        mapped = MC_SYSCALL_6(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        mc_folder_close(file);
    }
    mc_call_end();
    return mapped;
}

static long map_areas(uint64_t size)
{
    long mapped = MC_SYSCALL_4(SYS_mremap, &mc_control, 0, size, MREMAP_MAYMOVE);
    return mapped == -EINVAL ? map_file(size) : mapped;
}

int mc_areas_make(void)
{
    enum { LEAST = 256 << 10 };
    mc_region_name();
    if (!mc_call_begin(MC_CALL_SHARE)) return EPERM;
    uint64_t size = size_to_map();
    long mapped = -ENOMEM;
    while (size >= LEAST) {
        mapped = map_areas(size);
        if (!mc_syscall_failed(mapped)) break;
        size = size / 2 & ~(uint64_t)(MC_PAGE - 1);
    }
    mc_call_end();
    if (mc_syscall_failed(mapped)) return ENOMEM;
    struct mc_region_area areas[MC_AREA_COUNT];
    mc_area_runs = runs_for(size);
    lay_out(areas, size, mc_area_runs);
    mc_areas = (char *)mapped;
    areas_size = size;
    memset(mc_area_populated, 0, sizeof(mc_area_populated));
    memcpy(mc_own_region.areas, areas, sizeof(areas));
    int good =
        mc_area_ensure(mc_area_record(MC_AREA_FRAMES, 0), sizeof(struct mc_region_frame)) &&
        mc_area_ensure(mc_area_record(MC_AREA_STACKS, 0), 2 * sizeof(struct mc_region_stack));
    /* So that counting can't fail: see counters.h. */
    good = good && mc_area_ensure(mc_area_record(MC_AREA_COUNTERS, 0),
                                  2 * sizeof(struct mc_region_counters));
    begin_appending();
    if (good) {
        mc_region_store(&mc_own_region.traced_since_ns, mc_boottime_ns());
        return 0;
    }
    memset(mc_own_region.areas, 0, sizeof(areas));
    mc_areas = 0;
    mc_os_release((void *)mapped, size);
    return ENOSPC;
}

/* Kernels before 5.14 have no MADV_POPULATE_WRITE; there the file is opened again. */
static int allocate_in_file(uint64_t offset, uint64_t size)
{
    if (!mc_call_begin(MC_CALL_GROW_FILE)) return 0;
    int file = mc_folder_open();
    int good = file >= 0 && !MC_SYSCALL_4(SYS_fallocate, file, 0, offset, size);
    if (file >= 0) mc_folder_close(file);
    mc_call_end();
    return good;
}

static int populate(uint64_t page, uint64_t count)
{
    enum { POPULATE_WRITE = 23 }; /* MADV_POPULATE_WRITE */
    if (!mc_call_begin(MC_CALL_POPULATE)) return 0;
    long result =
        MC_SYSCALL_3(SYS_madvise, mc_areas + page * MC_PAGE, count * MC_PAGE, POPULATE_WRITE);
    mc_call_end();
    return !result || (result == -EINVAL && allocate_in_file(page * MC_PAGE, count * MC_PAGE));
}

static int page_is_there(uint64_t page)
{
    return mc_load(&mc_area_populated[page / 64]) >> page % 64 & 1;
}

static void note_populated(uint64_t page, uint64_t count)
{
    for (uint64_t i = page; i < page + count; i++)
        __atomic_fetch_or(&mc_area_populated[i / 64], 1ull << i % 64, __ATOMIC_RELEASE);
}

/* Where pages come one after the other, more of them at once: a system call is dearer than what it
 * populates. A 64th of those that the run before holds already, so that little is populated in vain. */
static uint64_t count_ahead(uint64_t page)
{
    enum { LOOK = 1024, SHARE = 64 };
    uint64_t behind = 0, ahead = 1, limit = areas_size / MC_PAGE;
    while (behind < LOOK && behind < page && page_is_there(page - behind - 1))
        behind++;
    while (ahead <= behind / SHARE && page + ahead < limit && !page_is_there(page + ahead))
        ahead++;
    return ahead;
}

static int make_page(uint64_t page)
{
    uint64_t count = count_ahead(page);
    if (!populate(page, count)) {
        count = 1;
        if (!populate(page, count)) return 0;
    }
    note_populated(page, count);
    return 1;
}

int mc_area_ensure(const void *record, uint64_t size)
{
    uint64_t offset = (uint64_t)((const char *)record - mc_areas);
    for (uint64_t page = offset / MC_PAGE; page <= (offset + size - 1) / MC_PAGE; page++) {
        if (unlikely(!page_is_there(page)) && !make_page(page)) return 0;
    }
    return 1;
}

uint64_t mc_area_append(unsigned area, uint64_t count)
{
    const struct mc_region_area *place = &mc_own_region.areas[area];
    uint64_t first = mc_load(&reserved[area]);
    do {
        if (first + count > place->capacity ||
            !mc_area_ensure(mc_area_record(area, first), count * place->record_size))
            return UINT64_MAX;
    } while (!mc_swap_if(&reserved[area], &first, first + count));
    return first;
}

void mc_area_publish(unsigned area, uint64_t end)
{
    uint64_t count = mc_load(&mc_own_region.areas[area].count);
    while (count < end && !mc_swap_if(&mc_own_region.areas[area].count, &count, end)) {
    }
}

/* -- a forked child ------------------------------------------------------------------------ */

/* Copies the records of the parent's areas, which lie the same way in ours. The parent goes on
 * appending, always what is referred to first: so what refers is counted first here. */
static int copy_areas(const char *from, const struct mc_region *parent)
{
    static const uint8_t referring_first[MC_AREA_COUNT] = {
        MC_AREA_PLACES, MC_AREA_COMMON, MC_AREA_SAMPLES, MC_AREA_COUNTERS,
        MC_AREA_STACKS, MC_AREA_FRAMES, MC_AREA_MODULES, MC_AREA_STRINGS,
    };
    uint64_t counts[MC_AREA_COUNT];
    for (unsigned i = 0; i < MC_AREA_COUNT; i++)
        counts[referring_first[i]] = mc_load_acquire(&parent->areas[referring_first[i]].count);
    counts[MC_AREA_COUNTERS] = counts[MC_AREA_SAMPLES] = counts[MC_AREA_PLACES] =
        counts[MC_AREA_STACKS];
    counts[MC_AREA_COMMON] = 1;
    for (unsigned i = 0; i < MC_FRAME_WINDOWS; i++) /* those of all frames counted */
        mc_store(&mc_own_region.frame_windows[i], mc_load(&parent->frame_windows[i]));
    for (unsigned i = 0; i < MC_AREA_COUNT; i++) {
        struct mc_region_area *area = &mc_own_region.areas[i];
        if (area->capacity != parent->areas[i].capacity ||
            area->offset != parent->areas[i].offset || counts[i] > area->capacity)
            return ENOSPC;
        /* All that counts starts at 0, which is what it reads as. */
        int starts_anew = i >= MC_AREA_COUNTERS;
        uint64_t size = starts_anew ? 0 : counts[i] * area->record_size;
        if (size && !mc_area_ensure(mc_areas + area->offset, size)) return ENOSPC;
        memcpy(mc_areas + area->offset, from + area->offset, size);
        mc_region_store(&area->count, counts[i]);
    }
    begin_appending();
    return 0;
}

static int areas_stay; /* [const] once a forked child has more than a thread */

void mc_region_forked(int interrupted)
{
    if (areas_stay != interrupted)
        areas_stay = interrupted; /* a store would be a page to the child */
}

static void leave_areas(char *inherited, uint64_t size)
{
    if (!inherited) return;
    if (areas_stay)
        mc_os_replace(inherited, size);
    else
        mc_os_release(inherited, size);
}

void mc_region_abandon(void)
{
    char *inherited = mc_areas;
    mc_shards_end();
    mc_areas = 0;
    go_private();
    leave_areas(inherited, areas_size);
}

int mc_region_create_forked(const struct mc_region_options *options, const char **failed)
{
    MC_TABLE static union first_page made; /* not on whatever stack the child's first call has */
    int saved = errno;
    char *inherited = mc_areas;
    uint64_t inherited_size = areas_size;
    describe(&made, options);
    made.region.parent_pid = mc_own_region.pid;
    made.region.depth = mc_own_region.depth;
    made.region.floor = mc_own_region.floor;
    made.region.sample = mc_own_region.sample;
    made.region.deepen = mc_own_region.deepen;
    made.region.births_from_ns =
        mc_own_region.births_from_ns; /* the tags it inherits count from there */
    made.region.epoch = mc_own_region.epoch;
    made.region.own_bytes = mc_own_region.own_bytes; /* the child has a copy of that */
    made.region.trail_bytes = mc_own_region.trail_bytes;
    mc_shards_end();
    mc_areas = 0;
    int error = map_over(&made, options, failed);
    if (!error && inherited) {
        *failed = "the parent's trace can't be copied";
        error = mc_areas_make();
        if (!error) error = copy_areas(inherited, (const struct mc_region *)inherited);
    }
    if (error) {
        mc_folder_remove();
        mc_region_abandon();
    }
    leave_areas(inherited, inherited_size);
    errno = saved;
    return error;
}
