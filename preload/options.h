/* SPDX-License-Identifier: MIT */
/* Run-time options: MEMCTL_ variables of the environment, read once, at the first allocation. The
 * table in options.c is the list of them; docs/commands.md repeats its texts.
 *
 * A value that makes no sense is ignored, and named on standard error if MEMCTL_VERBOSE is set. A
 * process that gained privileges (AT_SECURE) reads none. */
#ifndef MC_OPTIONS_H
#define MC_OPTIONS_H

#include <stdint.h>

struct mc_options {
    uint64_t trace;     /* MEMCTL_TRACE=on|sampled[:SIZE]: account from the first allocation on */
    uint64_t sample;    /* of sampled: one allocation per 2^n bytes; 0: every one */
    uint64_t maps;      /* MEMCTL_TRACE_MMAP=1: mappings as well, where allocations are */
    uint64_t depth;     /* MEMCTL_DEPTH=N: frames a stack, 1 to 256 */
    uint64_t keep;      /* MEMCTL_KEEP=1: leave the region behind at exit */
    uint64_t region;    /* MEMCTL_REGION=off: make no region; then nothing can be traced */
    uint64_t trace_max; /* MEMCTL_TRACE_MAX=SIZE: most that traces may take of the region */
    uint64_t huge;      /* MEMCTL_HUGE_PAGES=always|dense|never: an enum mc_huge_pages */
    uint64_t verbose;   /* MEMCTL_VERBOSE=1: say on standard error what could not be done */
    const char *folder; /* MEMCTL_DIR=PATH: where regions are; NULL: /dev/shm/memctl-UID */
};

extern struct mc_options mc_options;

void mc_options_read(void);

#endif
