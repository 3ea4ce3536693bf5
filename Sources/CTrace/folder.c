/* SPDX-License-Identifier: MIT */
/* See folder.h. */
#define _GNU_SOURCE
#include "folder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bits.h"
#include "memctl_region.h"

static char path[PATH_MAX]; /* of the folder; kept to remove the file at exit */
static pid_t maker;         /* the process that made the file */

/* "PID" or "PID.NUMBER" */
static void name_of(uint64_t pid, uint64_t number, char *name)
{
    char digits[48];
    unsigned count = 0;
    for (uint64_t value = number; value; value /= 10)
        digits[count++] = (char)('0' + value % 10);
    if (number)
        digits[count++] = '.';
    do {
        digits[count++] = (char)('0' + pid % 10);
    } while (pid /= 10);
    while (count)
        *name++ = digits[--count];
    *name = 0;
}

/* "/dev/shm/memctl-UID" */
static void default_path(void)
{
    static const char start[] = "/dev/shm/memctl-";
    memcpy(path, start, sizeof(start));
    name_of((uint64_t)geteuid(), 0, path + sizeof(start) - 1);
}

void mc_folder_close(int descriptor)
{
    syscall(SYS_close, descriptor);
}

static int open_at(int folder, const char *name, int flags)
{
    return (int)syscall(SYS_openat, folder, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/* Our own folder must be nobody else's: a stranger's could show them what we trace. One that the
 * user named is the user's business. Returns a descriptor, or -1 with errno. */
static int open_folder(const char *wanted)
{
    if (wanted) {
        size_t size = strlen(wanted);
        if (size >= sizeof(path)) {
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(path, wanted, size + 1);
        return (int)syscall(SYS_openat, AT_FDCWD, path, O_DIRECTORY | O_CLOEXEC, 0);
    }
    default_path();
    int folder = open_at(AT_FDCWD, path, O_DIRECTORY);
    if (folder < 0 && errno == ENOENT && !mkdir(path, 0700))
        folder = open_at(AT_FDCWD, path, O_DIRECTORY);
    if (folder < 0)
        return -1;
    struct stat status;
    if (fstat(folder, &status) || status.st_uid != geteuid() || status.st_mode & 022) {
        mc_folder_close(folder);
        errno = EPERM;
        return -1;
    }
    return folder;
}

/* An earlier process had our pid: its trace may still be wanted, anything else not. */
static void put_aside(int folder, const char *name)
{
    struct mc_region old;
    int file = open_at(folder, name, O_RDONLY | O_NONBLOCK);
    long size = file < 0 ? -1 : syscall(SYS_pread64, file, &old, sizeof(old), 0);
    if (file >= 0)
        mc_folder_close(file);
    if (size == (long)sizeof(old) && old.magic == MC_REGION_MAGIC && old.traced_since_ns) {
        char kept[48];
        for (uint64_t number = 1; number < 100; number++) {
            name_of((uint64_t)getpid(), number, kept);
            if (!syscall(SYS_renameat2, folder, name, folder, kept, 1 /* RENAME_NOREPLACE */))
                return;
        }
    }
    unlinkat(folder, name, 0);
}

/* Regions of processes that were killed stay behind; memctl clears those without a trace. Where
 * nobody calls it, one process in so many looks after them. Regions of another pid namespace can't
 * be judged from here. */
static void sweep(int folder, uint64_t pid_namespace)
{
    enum { ONE_IN = 64 };
    struct entry {
        uint64_t inode;
        int64_t offset;
        uint16_t size;
        uint8_t type;
        char name[];
    };
    _Alignas(8) char buffer[2048];
    if (getpid() % ONE_IN || !pid_namespace)
        return;
    long size = syscall(SYS_getdents64, folder, buffer, sizeof(buffer));
    for (long at = 0; at + (long)sizeof(struct entry) < size;) {
        const struct entry *entry = (const struct entry *)(buffer + at);
        long pid = 0;
        const char *digit = entry->name;
        for (; *digit >= '0' && *digit <= '9' && pid < INT_MAX / 10; digit++)
            pid = pid * 10 + (*digit - '0');
        at += entry->size;
        if (*digit || !pid || !kill((pid_t)pid, 0) || errno != ESRCH)
            continue;
        struct mc_region old;
        int file = open_at(folder, entry->name, O_RDONLY | O_NONBLOCK);
        if (file < 0)
            continue;
        if (syscall(SYS_pread64, file, &old, sizeof(old), 0) == (long)sizeof(old)
            && old.magic == MC_REGION_MAGIC && !old.traced_since_ns
            && old.pid_namespace == pid_namespace)
            unlinkat(folder, entry->name, 0);
        mc_folder_close(file);
    }
}

/* A file beyond RLIMIT_FSIZE would cost the program a SIGXFSZ. */
static uint64_t bound_size(uint64_t size)
{
    struct rlimit limit;
    if (!getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur < size)
        size = limit.rlim_cur & ~(uint64_t)(MC_PAGE - 1);
    return size;
}

static int fill(int file, const void *first, uint64_t first_size, uint64_t size, const char **failed)
{
    *failed = "no room for the region's size (RLIMIT_FSIZE)";
    if (size < MC_PAGE || ftruncate(file, (off_t)size))
        return size < MC_PAGE ? EFBIG : errno;
    *failed = "no room for the region (is the file system full?)";
    if (syscall(SYS_fallocate, file, 0, 0L, (long)MC_PAGE) && errno != EOPNOTSUPP)
        return errno;
    if (syscall(SYS_pwrite64, file, first, first_size, 0L) != (long)first_size)
        return ENOSPC;
    return 0;
}

int mc_folder_make(const char *wanted, const void *first, uint64_t first_size, uint64_t *size,
                   int *descriptor, const char **failed)
{
    char name[48];
    *failed = "the folder of regions can't be opened";
    int folder = open_folder(wanted);
    if (folder < 0)
        return errno;
    *failed = "the region can't be made";
    name_of((uint64_t)getpid(), 0, name);
    int file = open_at(folder, name, O_RDWR | O_CREAT | O_EXCL);
    if (file < 0 && errno == EEXIST) {
        put_aside(folder, name);
        file = open_at(folder, name, O_RDWR | O_CREAT | O_EXCL);
    }
    int error = file < 0 ? errno : 0;
    if (!error) {
        *size = bound_size(*size);
        error = fill(file, first, first_size, *size, failed);
        if (error) {
            unlinkat(folder, name, 0);
            mc_folder_close(file);
        }
    }
    if (!error) {
        maker = getpid();
        *descriptor = file;
        sweep(folder, ((const struct mc_region *)first)->pid_namespace);
    }
    mc_folder_close(folder);
    return error;
}

static int open_own_folder(void)
{
    return path[0] ? (int)syscall(SYS_openat, AT_FDCWD, path, O_DIRECTORY | O_CLOEXEC, 0) : -1;
}

int mc_folder_open(void)
{
    char name[48];
    int folder = open_own_folder();
    if (folder < 0)
        return -1;
    name_of((uint64_t)getpid(), 0, name);
    int file = maker == getpid() ? open_at(folder, name, O_RDWR) : -1;
    mc_folder_close(folder);
    return file;
}

void mc_folder_remove(void)
{
    char name[48];
    int saved = errno;
    int folder = maker == getpid() ? open_own_folder() : -1;
    if (folder >= 0) {
        name_of((uint64_t)maker, 0, name);
        unlinkat(folder, name, 0);
        mc_folder_close(folder);
    }
    maker = 0;
    errno = saved;
}
