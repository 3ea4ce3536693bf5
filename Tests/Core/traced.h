/* SPDX-License-Identifier: MIT */
/* A traced process: a region in a folder of its own, and its counters as memctl reads them. */
#ifndef TRACED_H
#define TRACED_H

#include <fcntl.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "counters.h"
#include "os.h"
#include "region.h"
#include "test.h"
#include "trace.h"

static char folder[200];

static inline const char *file_name(pid_t pid)
{
    static char name[256];
    snprintf(name, sizeof(name), "%s/%d", folder, (int)pid);
    return name;
}

static inline int exists(pid_t pid)
{
    return !access(file_name(pid), F_OK);
}

/* $TEST_FOLDER is the runner's, which removes it with all that failed cases left. */
static inline void make_folder(void)
{
    const char *parent = getenv("TEST_FOLDER");
    snprintf(folder, sizeof(folder), "%s/core.XXXXXX", parent ? parent : "/tmp");
    REQUIRE(mkdtemp(folder));
}

static struct mc_region_options options = {
    .folder = folder, .max_size = 64 << 20, .depth = 64, .armed = MC_ARMED_TRACE};

static inline void make_region(uint64_t max_size)
{
    const char *failed = "";
    make_folder();
    options.max_size = max_size;
    int error = mc_region_create(&options, &failed);
    if (error) fprintf(stderr, "%s: %s\n", failed, strerror(error));
    REQUIRE_EQUAL(error, 0);
    mc_os_fork_watch();
    REQUIRE_EQUAL(mc_own_region.pid, getpid());
    REQUIRE(exists(getpid()));
}

static inline void trace(uint64_t max_size)
{
    make_region(max_size);
    REQUIRE(mc_trace_ready());
}

static inline void add(struct mc_region_counters *sum, const struct mc_region_counters *row)
{
    sum->allocs += row->allocs;
    sum->frees += row->frees;
    sum->bytes_in += row->bytes_in;
    sum->bytes_out += row->bytes_out;
    sum->usable_in += row->usable_in;
    sum->usable_out += row->usable_out;
    sum->lifetimes += row->lifetimes;
    sum->temporary += row->temporary;
}

/* What a narrow row stands for. */
static inline struct mc_region_counters widened(const struct mc_region_narrow *row,
                                                const struct mc_region_narrow *turns)
{
    return (struct mc_region_counters){
        mc_narrow_value(row->allocs, turns->allocs),
        mc_narrow_value(row->frees, turns->frees),
        mc_narrow_value(row->bytes_in, turns->bytes_in),
        mc_narrow_value(row->bytes_out, turns->bytes_out),
        mc_narrow_value(row->usable_in, turns->usable_in),
        mc_narrow_value(row->usable_out, turns->usable_out),
        mc_narrow_value(row->lifetimes, turns->lifetimes),
        mc_narrow_value(row->temporary, turns->temporary),
    };
}

static inline void read_rows(int file, void *rows, uint64_t size, uint64_t place)
{
    REQUIRE(pread(file, rows, size, (off_t)place) == (ssize_t)size);
}

enum { ROWS = 1 << 17 };

/* Of narrow rows, and the turns of as many others. */
static inline void add_narrow(struct mc_region_counters *sum, int file, uint64_t place,
                              uint64_t place_of_turns, uint64_t count)
{
    static struct mc_region_narrow narrow[ROWS], turns[ROWS];
    read_rows(file, narrow, count * sizeof(*narrow), place);
    read_rows(file, turns, count * sizeof(*turns), place_of_turns);
    for (uint64_t i = 0; i < count; i++) {
        struct mc_region_counters row = widened(&narrow[i], &turns[i]);
        add(sum, &row);
    }
}

/* What threads without a shard counted of these stacks. */
static inline void add_common(struct mc_region_counters *sum, int file, uint64_t from,
                              uint64_t count)
{
    static uint32_t places[ROWS];
    const struct mc_region_area *area = &mc_own_region.areas[MC_AREA_COMMON];
    read_rows(file, places, count * sizeof(*places),
              mc_own_region.areas[MC_AREA_PLACES].offset + from * sizeof(*places));
    for (uint64_t i = 0; i < count; i++) {
        uint64_t row = area->offset + places[i] * area->record_size;
        REQUIRE(places[i] < area->count);
        if (places[i]) add_narrow(sum, file, row, row + area->capacity * area->record_size, 1);
    }
}

/* Rows [from, end), as memctl reads them: from the file, since touching a page of the mapping that
 * is not there yet would make it, or be a SIGBUS. */
static inline struct mc_region_counters sum_of_rows(uint64_t from, uint64_t end)
{
    static struct mc_region_counters rows[ROWS];
    const struct mc_region_area *area = &mc_own_region.areas[MC_AREA_COUNTERS];
    struct mc_region_counters sum = {0};
    int file = open(file_name(getpid()), O_RDONLY);
    uint64_t count = end - from, run = area->capacity * sizeof(*rows);
    REQUIRE(file >= 0 && count <= ROWS);
    read_rows(file, rows, count * sizeof(*rows), area->offset + from * sizeof(*rows));
    for (uint64_t i = 0; i < count; i++)
        add(&sum, &rows[i]);
    for (uint64_t shard = 1; shard < mc_area_runs; shard++) {
        uint64_t place = area->offset + shard * run + from * sizeof(struct mc_region_narrow);
        add_narrow(&sum, file, place, place + run / 2, count);
    }
    add_common(&sum, file, from, count);
    close(file);
    return sum;
}

static inline struct mc_region_counters sum_of(uint32_t stack)
{
    return sum_of_rows(stack, stack + 1);
}

static inline struct mc_region_counters sum_of_all(void)
{
    return sum_of_rows(MC_STACK_OVERFLOW, mc_own_region.areas[MC_AREA_STACKS].count);
}

#endif
