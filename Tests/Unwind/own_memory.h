/* SPDX-License-Identifier: MIT */
/* Own memory for the trails of tests, where there is no region to count it in. */
#ifndef OWN_MEMORY_H
#define OWN_MEMORY_H

#include "own.h"

extern size_t own_memory_bytes; /* mapped now */

#endif
