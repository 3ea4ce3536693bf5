/* SPDX-License-Identifier: MIT */
/* A kernel that fails, and a clock that leaps, when a test says so: os.h anew, to be linked instead of os.c. */
#ifndef OS_FAULTY_H
#define OS_FAULTY_H

#include <stddef.h>
#include <stdint.h>

enum { OS_RESERVE = 1, OS_MAP = 2, OS_COMMIT = 4, OS_RESIZE = 8, OS_PURGE = 16 };

struct os_faults {
    unsigned kinds;        /* OS_ bits: the calls that are counted, and may fail */
    uint64_t calls;        /* so many were counted */
    uint64_t fail_at;      /* the first that fails */
    uint64_t fail_count;   /* how many in a row */
    uint64_t bytes;        /* of address space held */
    uint64_t bytes_limit;  /* more than that is refused, as by RLIMIT_AS */
    uint64_t commit_limit; /* more than that at once is refused */
    uint64_t ms_ahead;     /* of the clock, in milliseconds */
    int resize_moves;      /* a resize goes elsewhere, always */
    void (*after_resize)(void *start, size_t size); /* the old place is free, nobody knows yet */
};
extern struct os_faults os_faults;

#endif
