/* SPDX-License-Identifier: MIT */
/* Identity: what a region says of whose it is, beside the pid: where that pid counts, and which
 * program it is.
 *
 * Looking something up below /proc/self makes the kernel set up that directory for this process and
 * take it down when it ends, which is dear beside all else of a start. So it is only done where the
 * answer can't be had otherwise, or by then is worth it: when tracing begins. */
#ifndef MC_IDENTITY_H
#define MC_IDENTITY_H

#include "memctl_region.h"

/* For mc_region.pid_namespace; 0 if there is no /proc to see. */
uint64_t mc_identity_pid_namespace(uint32_t pid);

/* Sets the executable: to the path that the program was started by, which may be a link's or a
 * script's; or `surely`, and where that path is a relative one, to the kernel's. And the name, by which people know
 * it: always the last part of what it was started by, as ps(1) and pgrep(1) have it. */
void mc_identity_name(struct mc_region *region, int surely);

#endif
