/* SPDX-License-Identifier: MIT */
/* The words in which the kernel keeps its coarse clock: in pages that it maps into every process for code of
 * its own, the vdso(7), which is the only one to know where in them. To read the words takes a sixth of the
 * time that code takes.
 *
 * So they are looked for by what they say. Which pages to look in that code tells: they lie right before it,
 * and its instructions name them. What is found once may be chance; whoever asks believes it when the clock has
 * moved, and the words with it. Where there is no such code (valgrind), where it is made otherwise, or where
 * the words are not what it says (a time namespace that begins elsewhere), nothing is found, and its answer is
 * all there is. */
#ifndef MC_CLOCK_WORDS_H
#define MC_CLOCK_WORDS_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Seconds, and the nanoseconds beside them. */
enum { MC_CLOCK_SECONDS, MC_CLOCK_NS, MC_CLOCK_WORDS };

/* The only place where the kernel's pages say `now`; NULL if there is none, or more than one. */
const uint64_t *mc_clock_words_find(const struct timespec *now);

/* The same of so many pages at these addresses, all of which can be read. */
const uint64_t *mc_clock_words_in(const uintptr_t *pages, size_t count, const struct timespec *now);

/* The pages before it, at most `most` of them, that the instructions in [code, end) name, each once. */
size_t mc_clock_pages_of(const unsigned char *code, const unsigned char *end, uintptr_t *pages,
                         size_t most);

#endif
