/* conformance.h: what every conformance case is made of.
 *
 * A case is one promise of the heap, as a function registered with CASE(). The linker gathers the
 * cases of all files in one section, so there is no list to keep in step; main.c runs one case per
 * process. A case that returns has passed. REQUIRE() ends the process with status 1 and one line
 * that says which condition failed; SKIP() ends it with status 77 and the reason.
 *
 * CASE() states what glibc does too, and is run on plain glibc as a control: a case that can't
 * pass there states the wrong promise. CASE_OURS() states what only this heap promises.
 *
 * Everything here is async-signal-safe in the small: reports go to descriptor 2 by write(2), never
 * through malloc, because most cases run in a heap that is exhausted, interrupted or forked. */
/* SPDX-License-Identifier: MIT */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { STATUS_FAILED = 1, STATUS_SKIPPED = 77 };

struct conformance_case {
    const char *name;
    const char *promise; /* one sentence and where it is promised */
    void (*run)(void);
    bool only_ours; /* not run on the control */
};

/* Entries are pointers: a section of pointers has no padding between the files' parts. */
#define CASE_ENTRY(NAME, PROMISE, ONLY_OURS)                                                       \
    static void NAME(void);                                                                        \
    static const struct conformance_case NAME##_entry = {#NAME, PROMISE, NAME, ONLY_OURS};         \
    __attribute__((section("conformance_cases"),                                                   \
                   used)) static const struct conformance_case *const NAME##_pointer =             \
        &NAME##_entry;                                                                             \
    static void NAME(void)
#define CASE(NAME, PROMISE)      CASE_ENTRY(NAME, PROMISE, false)
#define CASE_OURS(NAME, PROMISE) CASE_ENTRY(NAME, PROMISE, true)

__attribute__((noreturn)) void conformance_fail(const char *file, int line, const char *what);
__attribute__((noreturn)) void conformance_skip(const char *reason);

#define REQUIRE(CONDITION)                                                                         \
    ((CONDITION) ? (void)0 : conformance_fail(__FILE__, __LINE__, #CONDITION))
#define SKIP(REASON) conformance_skip(REASON)

/* Keeps the compiler from knowing what a value is, so that no call is folded or warned away. */
static inline void *hide(void *p)
{
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

static inline size_t hide_size(size_t n)
{
    __asm__ volatile("" : "+r"(n));
    return n;
}

static inline bool is_aligned(const void *p, size_t alignment)
{
    return ((uintptr_t)p & (alignment - 1)) == 0;
}

/* --- support.c ----------------------------------------------------------------------------- */

/* A pattern that differs for every (seed, offset), so that moved or shared bytes are noticed. */
void pattern_fill(void *start, size_t size, unsigned seed);
bool pattern_holds(const void *start, size_t size, unsigned seed);
bool all_zero(const void *start, size_t size);

/* A small generator of its own (not rand(): that takes a lock). */
uint64_t random_next(uint64_t *state);

/* Bytes of memory, in swap too, and of address space, as the kernel counts them. */
size_t resident_bytes(void);

/* What a thread may have beyond what it touches: where the kernel is to back all memory by huge pages, the
 * arena's part that its spans are in; else 0. */
size_t huge_page_rest(void);
size_t address_space_bytes(void);
/* Every way through the heap: sizes from a byte to 64 MiB, aligned, zeroed, reallocated, trimmed. */
void use_all_sizes(void);
/* Number of threads of this process, by /proc/self/task. */
int thread_count(void);
/* Waits until they are so many. */
void require_threads(int count);
/* Seconds after which a child that hangs is ended; a slow machine has to get by with them. */
enum { PATIENCE = 120 };

/* Now, in seconds of CLOCK_MONOTONIC. */
double seconds_now(void);
void sleep_milliseconds(unsigned ms);

/* fork(): the child runs `body` and exits 0. Returns the child's wait status. */
int in_child(void (*body)(void *), void *argument);
/* The same, and requires that the child passed; a child that skipped skips the case. */
void require_child(void (*body)(void *), void *argument);

/* The child must die by SIGABRT, with nothing on stdout and exactly one line on stderr, which
 * holds `word` (NULL: any text) and `address` in hexadecimal. */
void require_abort(void (*body)(void *), void *argument, const char *word, const void *address);

/* Runs a helper program that lies beside this one; its exit status must be 0 (77 skips).
 * What it wrote to stdout is returned in `output` (NULL: not wanted), cut to `size` - 1. */
void require_helper(const char *name, const char *argument, char *output, size_t size);
/* The path of a file beside this program, in a static buffer. */
const char *beside(const char *name);

/* pthread_create and pthread_join that REQUIRE success; `stack` 0 means the default. */
void *run_thread(void *(*body)(void *), void *argument, size_t stack);

#ifdef __cplusplus
}
#endif
#endif
