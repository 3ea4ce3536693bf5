/* SPDX-License-Identifier: MIT */
/* libc's names for looking at and steering the heap: mallinfo(3), malloc_info(3), malloc_stats(3),
 * malloc_trim(3), mallopt(3). They must be ours: glibc's own would answer for a heap that is empty.
 * Output goes by write(2) or the caller's stream; nothing is allocated. */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>

#include "instrument.h"
#include "print.h"

EXPORT struct mallinfo2 mallinfo2(void)
{
    struct mc_heap_totals totals;
    mc_heap_totals(&totals);
    uint64_t arena = totals.reserved - totals.huge_bytes - totals.free_slices;
    return (struct mallinfo2){
        .arena = arena, /* in spans */
        .ordblks = 1,   /* glibc: at least one free chunk */
        .hblks = totals.huge_count,
        .hblkhd = totals.huge_bytes,
        .uordblks = totals.used - totals.huge_bytes,
        .fordblks = arena - (totals.used - totals.huge_bytes),
        .keepcost = 0,
    };
}

static int narrow(size_t value)
{
    return value > INT_MAX ? INT_MAX : (int)value;
}

EXPORT struct mallinfo mallinfo(void)
{
    struct mallinfo2 wide = mallinfo2();
    return (struct mallinfo){
        .arena = narrow(wide.arena),
        .ordblks = narrow(wide.ordblks),
        .hblks = narrow(wide.hblks),
        .hblkhd = narrow(wide.hblkhd),
        .uordblks = narrow(wide.uordblks),
        .fordblks = narrow(wide.fordblks),
    };
}

EXPORT int malloc_info(int options, FILE *stream)
{
    if (options) return EINVAL;
    struct mc_heap_totals totals;
    mc_heap_totals(&totals);
    fprintf(stream,
            "<malloc version=\"1\">\n"
            "<total type=\"used\" count=\"%lu\" size=\"%lu\"/>\n"
            "<total type=\"cached\" size=\"%lu\"/>\n"
            "<total type=\"mmap\" count=\"%lu\" size=\"%lu\"/>\n"
            "<system type=\"current\" size=\"%lu\"/>\n"
            "<aspace type=\"total\" size=\"%lu\"/>\n"
            "<metadata size=\"%lu\"/>\n"
            "</malloc>\n",
            totals.used_slots, totals.used, totals.cached, totals.huge_count, totals.huge_bytes,
            totals.reserved - totals.free_slices, totals.reserved, totals.metadata);
    return 0;
}

static void print(const char *name, uint64_t bytes)
{
    struct mc_line line = mc_line_start();
    mc_line_text(&line, name);
    mc_line_decimal(&line, bytes);
    mc_line_write(&line);
}

EXPORT void malloc_stats(void)
{
    struct mc_heap_totals totals;
    mc_heap_totals(&totals);
    print("bytes in use      ", totals.used);
    print("objects in use    ", totals.used_slots);
    print("bytes in spans    ", totals.used + totals.cached);
    print("bytes reserved    ", totals.reserved);
    print("bytes of metadata ", totals.metadata);
}

EXPORT int malloc_trim(size_t pad)
{
    (void)pad; /* what to leave at the top of glibc's heap; there is no top here */
    return mc_heap_trim();
}

/* glibc: 1 for a parameter it knows and a value it can have, else 0. There is nothing here that
 * its parameters would tune; what is asked for is granted without effect. */
EXPORT int mallopt(int parameter, int value)
{
    enum { MAX_FAST = 80 * sizeof(size_t) / 4 };
    switch (parameter) {
    case M_MXFAST: return value >= 0 && value <= (int)MAX_FAST;
    case M_TRIM_THRESHOLD:
    case M_TOP_PAD:
    case M_MMAP_THRESHOLD:
    case M_MMAP_MAX:
    case M_CHECK_ACTION:
    case M_PERTURB:
    case M_ARENA_TEST:
    case M_ARENA_MAX: return 1;
    default: return 0;
    }
}
