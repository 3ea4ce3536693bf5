/* SPDX-License-Identifier: MIT */
/* The demanglers every Swift program on Linux already carries: the C++ runtime's and Swift's own.
 *
 * Neither bounds its output: names repeat parts of themselves by reference, so a hundred characters
 * can describe a type that takes gigabytes to print. Names with few references are harmless and
 * are demangled right here; the others by mc_demangle_fenced(), which asks a child process whose
 * memory and time are limited. The child is forked when first needed, serves all later names,
 * and ends with its parent.
 *
 * The direct calls return a malloc'ed string the caller frees, or NULL for a name that is not
 * theirs. Any thread may call.
 */
#ifndef MC_CDEMANGLE_H
#define MC_CDEMANGLE_H

#include <stddef.h>

/* Longest name, and longest text, that goes through the fence; a message of this size must fit a
 * socket's default buffer (208 KiB). */
#define MC_DEMANGLE_MAX 65536

enum mc_language { MC_LANGUAGE_CXX, MC_LANGUAGE_SWIFT };

char *mc_demangle(enum mc_language language, const char *name);

/* Writes the text with its final zero to `text`; returns its length, or -1 when the name can't be
 * demangled within the limits. */
long mc_demangle_fenced(enum mc_language language, const char *name,
                        char text[static MC_DEMANGLE_MAX]);

#endif
