/* SPDX-License-Identifier: MIT */
/* A small file system over the folder of regions, for tests of what happens when it is full. */
#ifndef SMALL_FS_H
#define SMALL_FS_H

#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>

#include "traced.h"

/* Of our own; skips where that is not allowed. */
static inline void mount_small(const char *how)
{
    make_folder();
    if (unshare(CLONE_NEWNS) || mount("none", "/", 0, MS_REC | MS_PRIVATE, 0) ||
        mount("none", folder, "tmpfs", 0, how))
        test_skip("no file system can be mounted here");
}

static inline const char *filler(void)
{
    static char path[300];
    snprintf(path, sizeof(path), "%s/filler", folder);
    return path;
}

/* Fills what is left of it. */
static inline void fill_up(void)
{
    static char page[4096] = {1};
    FILE *file = fopen(filler(), "a");
    REQUIRE(file);
    setvbuf(file, 0, _IONBF, 0);
    while (fwrite(page, 1, sizeof(page), file) == sizeof(page)) {
    }
    fclose(file);
}

/* After fill_up(). */
static inline void make_room(void)
{
    REQUIRE(!unlink(filler()));
}

#endif
