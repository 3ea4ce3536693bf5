/* filters.h: seccomp filters, as programs that restrict themselves write them.
 *
 * A filter is a short program that the kernel runs before each system call; these look at its number
 * alone. `count` is the number of calls listed, at most FILTER_CALLS; `otherwise` a SECCOMP_RET_ value.
 * Where the kernel takes no filters, the case is skipped. */
/* SPDX-License-Identifier: MIT */
#ifndef CONFORMANCE_FILTERS_H
#define CONFORMANCE_FILTERS_H

#include "conformance.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#define COUNT_OF(ARRAY) (sizeof ARRAY / sizeof *ARRAY)
enum { FILTER_CALLS = 31, FILTER_SIZE = 2 + 2 * FILTER_CALLS };

/* A filter that lets `allowed` pass and answers everything else with `otherwise`; `program` has room
 * for FILTER_SIZE instructions, and is what the result points to. */
struct sock_fprog make_filter(struct sock_filter *program, const int *allowed, size_t count,
                              unsigned otherwise);

/* Restricts this thread to `allowed`, from here on and in what it starts. */
void install_filter(const int *allowed, size_t count, unsigned otherwise);

/* Answers `refused` with `otherwise`, lets all else pass. */
void refuse(const int *refused, size_t count, unsigned otherwise);

#endif
