/* SPDX-License-Identifier: MIT */
/* Modules: the loaded objects that frames are in, written to the region when a frame first lies in
 * one, so that a dead process' or an unloaded library's addresses still have names.
 *
 * Found by _dl_find_object(3), which takes no lock. An unloading that takes a known module away
 * ends the epoch: the module's record gets its last one, and what is loaded later at the same
 * addresses gets a record of its own. */
#ifndef MC_MODULES_H
#define MC_MODULES_H

#include <stdint.h>

/* Makes sure that the module of `pc` is in the region. Code in no module (made at run time) has
 * none. */
void mc_modules_note(uint64_t pc);

/* After modules may have gone: notes which have. */
void mc_modules_unloaded(void);

/* In a forked child with a region of its own: the records were copied. Nothing to do for the known
 * ones; kept for those that were being written. */
uint32_t mc_modules_epoch(void);

#endif
