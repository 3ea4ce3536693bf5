/* SPDX-License-Identifier: MIT */
/* CRegion is headers only; this file makes it a target, and proves that they stand alone. */
#include "memctl_heap.h"
#include "memctl_region.h"
