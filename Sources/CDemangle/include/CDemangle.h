/* SPDX-License-Identifier: MIT */
/* The demanglers every Swift program on Linux already carries: the C++ runtime's and Swift's own.
 *
 * Both return a malloc'ed string the caller frees, or NULL for a name that is not theirs.
 * Neither bounds its output: a short name can describe a type that takes gigabytes to print.
 * Callers check the name first.
 */
#ifndef MC_CDEMANGLE_H
#define MC_CDEMANGLE_H

char *mc_demangle_cxx(const char *name);
char *mc_demangle_swift(const char *name);

#endif
