/* SPDX-License-Identifier: MIT */
/* Start and end of the library in a process: options, the region, fork, exit. */
#ifndef MC_START_H
#define MC_START_H

/* Reads the options and makes the region. Called by the first allocation, whoever makes it; other
 * threads that allocate meanwhile go on untraced. */
void mc_start(void);

#endif
