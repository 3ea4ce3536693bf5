/* SPDX-License-Identifier: MIT */
/* elfutils' libelf and libdw as one Swift module, and the one system call Swift can't spell.
 *
 * Swift imports no variadic C function, and glibc 2.36 has no wrapper for openat2(2), which alone
 * resolves a path as a process inside a container sees it: an absolute symbolic link below `root`
 * must not lead to the files of the machine around it.
 */
#ifndef MC_CDW_H
#define MC_CDW_H

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwelf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Bits that _GNU_SOURCE would show; a header can't ask for it after others were read. */
#define MC_O_PATH    0x200000
#define MC_O_CLOEXEC 0x80000

/* A descriptor that names `path` without opening what it names (a device is not touched, a FIFO
 * is not waited for), looked up as if `root` were "/". Returns -1 and sets errno on failure. */
static inline int mc_name_file(const char *root, const char *path)
{
    int directory = open(root, O_RDONLY | O_DIRECTORY | MC_O_CLOEXEC);
    if (directory < 0) return -1;
    struct open_how how = {.flags = MC_O_PATH | MC_O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
    long descriptor = syscall(SYS_openat2, directory, path, &how, sizeof how);
    /* Kernels before 5.6, and containers whose filter does not know the call. */
    if (descriptor < 0 && (errno == ENOSYS || errno == EPERM)) {
        while (*path == '/')
            path++;
        descriptor = openat(directory, path, MC_O_PATH | MC_O_CLOEXEC);
    }
    int error = errno;
    close(directory);
    errno = error;
    return (int)descriptor;
}

#endif
