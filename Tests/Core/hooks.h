/* SPDX-License-Identifier: MIT */
/* The heap's calls back, as a test wants them; NULL: nothing happens. */
#ifndef HOOKS_H
#define HOOKS_H

#include <stddef.h>
#include <stdint.h>

extern void (*on_tagged_free)(void *object, size_t usable, size_t requested, uint64_t tag);
extern void (*on_fork)(void);

#endif
