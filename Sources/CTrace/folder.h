/* SPDX-License-Identifier: MIT */
/* The folder of regions, and the file of this process in it. System calls only, none of them a
 * cancellation point; every descriptor is closed again before a call returns. */
#ifndef MC_FOLDER_H
#define MC_FOLDER_H

#include <stdint.h>

/* Makes the file of this process, `size` bytes (less if RLIMIT_FSIZE says so: *size is set), sparse
 * but for the page at `first`, which is written at its start. Opens it: the caller closes *descriptor
 * by mc_folder_close(). An older file of the same pid that holds a trace is kept under another name;
 * of others, those that name the same `pid_namespace` may be removed. `folder` may be NULL. Returns 0
 * or an errno value, and names the step in *failed. */
int mc_folder_make(const char *folder, const void *first, uint64_t pid_namespace, uint64_t *size,
                   int *descriptor, const char **failed);

/* Opens the file again; below 0 if it can't be found any more. */
int mc_folder_open(void);

void mc_folder_close(int descriptor);

/* 1 if the file that was made last was made by this process. */
int mc_folder_is_ours(void);

/* Removes the file that was made last, if this process made it: a forked child, or one of vfork(2),
 * does not take its parent's away. Returns 0 or an errno value. */
int mc_folder_remove(void);

#endif
