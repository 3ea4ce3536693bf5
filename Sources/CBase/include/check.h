/* SPDX-License-Identifier: MIT */
/* mc_assert: an internal impossibility. On in tests and debug builds, where it says what and where
 * and aborts, without allocating (assert(3) prints through stdio, which does). In release builds the
 * condition is compiled but not evaluated. */
#ifndef MC_CHECK_H
#define MC_CHECK_H

#include "print.h"

#define MC_TEXT_OF(number) #number
#define MC_TEXT(number)    MC_TEXT_OF(number)

#ifdef NDEBUG
#    define mc_assert(condition) ((void)sizeof(!(condition)))
#else
#    define mc_assert(condition)                                                                   \
        ((condition) ? (void)0 : mc_panic(#condition, 0, __FILE__ ":" MC_TEXT(__LINE__)))
#endif

#endif
