/* SPDX-License-Identifier: MIT */
/* See folder.h. */
#define _GNU_SOURCE
#include "folder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bits.h"
#include "memctl_region.h"
#include "syscall.h"

/* Of the file that was made, kept to remove it at exit: "/dev/shm/memctl-UID/PID", or below the folder that
 * the user named. Most are short, and lie beside what every process touches. */
enum { OF_FILE = 48 }; /* "/PID.NUMBER" and its end */
static char short_path[128];
MC_TABLE static char long_path[PATH_MAX + OF_FILE];
static char *path;  /* one of these */
static pid_t maker; /* the process that made it */

/* "PID" or "PID.NUMBER" */
static void name_of(uint64_t pid, uint64_t number, char *name)
{
    char digits[48];
    unsigned count = 0;
    for (uint64_t value = number; value; value /= 10)
        digits[count++] = (char)('0' + value % 10);
    if (number) digits[count++] = '.';
    do {
        digits[count++] = (char)('0' + pid % 10);
    } while (pid /= 10);
    while (count)
        *name++ = digits[--count];
    *name = 0;
}

static uint64_t own_number(void)
{
    return (uint64_t)MC_SYSCALL_1(SYS_getpid, 0);
}

/* Sets the path to that of the folder. */
static int find_folder(const char *wanted)
{
    static const char start[] = "/dev/shm/memctl-";
    path = short_path;
    if (!wanted) {
        memcpy(path, start, sizeof(start));
        name_of((uint64_t)MC_SYSCALL_1(SYS_geteuid, 0), 0, path + sizeof(start) - 1);
        return 0;
    }
    uint64_t size = strlen(wanted);
    if (size + OF_FILE > PATH_MAX) return -ENAMETOOLONG;
    if (size + OF_FILE > sizeof(short_path)) path = long_path;
    memcpy(path, wanted, size + 1);
    return 0;
}

void mc_folder_close(int descriptor)
{
    MC_SYSCALL_1(SYS_close, descriptor);
}

/* Returns a descriptor or -errno, as all open calls here do. */
static int open_at(int folder, const char *name, int flags)
{
    return (int)MC_SYSCALL_4(SYS_openat, folder, name, flags | O_CLOEXEC, 0600);
}

/* Our own folder must be nobody else's: a stranger's could show them what we trace. One that the
 * user named is the user's business. */
static int open_folder(const char *wanted)
{
    int folder = find_folder(wanted);
    if (folder) return folder;
    if (wanted) return open_at(AT_FDCWD, path, O_DIRECTORY);
    folder = open_at(AT_FDCWD, path, O_DIRECTORY | O_NOFOLLOW);
    if (folder == -ENOENT && !MC_SYSCALL_2(SYS_mkdir, path, 0700))
        folder = open_at(AT_FDCWD, path, O_DIRECTORY | O_NOFOLLOW);
    if (folder < 0) return folder;
    struct stat status;
    if (MC_SYSCALL_4(SYS_newfstatat, folder, "", &status, AT_EMPTY_PATH) ||
        status.st_uid != (uid_t)MC_SYSCALL_1(SYS_geteuid, 0) || status.st_mode & 022) {
        mc_folder_close(folder);
        return -EPERM;
    }
    return folder;
}

/* Reads the control words of an older region; 0 if it is none. */
static int read_old(int folder, const char *name, struct mc_region *old)
{
    int file = open_at(folder, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
    if (file < 0) return 0;
    long size = MC_SYSCALL_4(SYS_pread64, file, old, sizeof(*old), 0);
    mc_folder_close(file);
    return size == (long)sizeof(*old) && old->magic == MC_REGION_MAGIC;
}

static int holds_trace(int folder, const char *name, uint64_t *pid_namespace)
{
    struct mc_region old;
    if (!read_old(folder, name, &old)) return 0;
    *pid_namespace = old.pid_namespace;
    return old.traced_since_ns != 0 && old.exited != MC_EXITED;
}

/* When this process started, before any execve(2): nanoseconds since boot; 0 if not known. */
static uint64_t process_start_ns(void)
{
    enum { FIELD = 20 }; /* the start time, counted from the one behind the name in parentheses */
    char text[1024];
    int file = open_at(AT_FDCWD, "/proc/self/stat", O_RDONLY);
    long size = file < 0 ? -1 : MC_SYSCALL_3(SYS_read, file, text, sizeof(text) - 1);
    if (file >= 0) mc_folder_close(file);
    if (size <= 0) return 0;
    text[size] = 0;
    const char *start = text, *at;
    for (at = text; *at; at++) {
        if (*at == ')') start = at;
    }
    unsigned fields = 0;
    for (at = start; *at && fields < FIELD; at++)
        fields += *at == ' ';
    uint64_t ticks = 0, rate = getauxval(AT_CLKTCK);
    for (; *at >= '0' && *at <= '9'; at++)
        ticks = ticks * 10 + (uint64_t)(*at - '0');
    return rate ? ticks * (1000000000 / rate) : 0;
}

/* A region with our pid is of an earlier process, whose trace may still be wanted; or this process
 * made it and then ran another program: what it speaks of is gone. */
static void put_aside(int folder, const char *name)
{
    uint64_t pid_namespace;
    char kept[48];
    struct mc_region old;
    int earlier = read_old(folder, name, &old) && old.start_boottime_ns < process_start_ns();
    for (uint64_t number = 1; earlier && number < 100 && holds_trace(folder, name, &pid_namespace);
         number++) {
        name_of(own_number(), number, kept);
        MC_SYSCALL_5(SYS_renameat2, folder, name, folder, kept, 1 /* RENAME_NOREPLACE */);
    }
    MC_SYSCALL_3(SYS_unlinkat, folder, name, 0);
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
    if (maker % ONE_IN || !pid_namespace) return;
    long size = MC_SYSCALL_3(SYS_getdents64, folder, buffer, sizeof(buffer));
    for (long at = 0; at + (long)sizeof(struct entry) < size;) {
        const struct entry *entry = (const struct entry *)(buffer + at);
        long pid = 0;
        const char *digit = entry->name;
        for (; *digit >= '0' && *digit <= '9' && pid < INT_MAX / 10; digit++)
            pid = pid * 10 + (*digit - '0');
        at += entry->size;
        uint64_t theirs = 0;
        if (!*digit && pid && MC_SYSCALL_2(SYS_kill, pid, 0) == -ESRCH &&
            !holds_trace(folder, entry->name, &theirs) && theirs == pid_namespace)
            MC_SYSCALL_3(SYS_unlinkat, folder, entry->name, 0);
    }
}

/* A file beyond RLIMIT_FSIZE would cost the program a SIGXFSZ. */
static uint64_t bound_size(uint64_t size)
{
    struct rlimit limit;
    if (!MC_SYSCALL_4(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, &limit) && limit.rlim_cur < size)
        size = limit.rlim_cur & ~(uint64_t)(MC_PAGE - 1);
    return size;
}

/* Its first page is written whole, so that it is there: mapped, it must not be found missing. */
static int fill(int file, const void *first, uint64_t size, const char **failed)
{
    *failed = "no room for the region's size (RLIMIT_FSIZE)";
    if (size < MC_PAGE) return EFBIG;
    long result = MC_SYSCALL_2(SYS_ftruncate, file, size);
    if (result) return (int)-result;
    *failed = "no room for the region (is the file system full?)";
    result = MC_SYSCALL_4(SYS_pwrite64, file, first, MC_PAGE, 0);
    if (mc_syscall_failed(result)) return (int)-result;
    return result == MC_PAGE ? 0 : ENOSPC;
}

/* The path is the folder's until here. */
static void append_name(const char *name)
{
    char *end = path + strlen(path);
    *end = '/';
    memcpy(end + 1, name, strlen(name) + 1);
}

int mc_folder_make(const char *wanted, const void *first, uint64_t pid_namespace, uint64_t *size,
                   int *descriptor, const char **failed)
{
    enum { FRESH = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW };
    char name[OF_FILE];
    *failed = "the folder of regions can't be opened";
    int folder = open_folder(wanted);
    if (folder < 0) return -folder;
    *failed = "the region can't be made";
    uint64_t number = own_number();
    name_of(number, 0, name);
    int file = open_at(folder, name, FRESH);
    if (file == -EEXIST) {
        put_aside(folder, name);
        file = open_at(folder, name, FRESH);
    }
    int error = file < 0 ? -file : 0;
    if (!error) {
        *size = bound_size(*size);
        error = fill(file, first, *size, failed);
        if (error) {
            MC_SYSCALL_3(SYS_unlinkat, folder, name, 0);
            mc_folder_close(file);
        }
    }
    if (!error) {
        append_name(name);
        maker = (pid_t)number;
        *descriptor = file;
        sweep(folder, pid_namespace);
    }
    mc_folder_close(folder);
    return error;
}

int mc_folder_is_ours(void)
{
    return maker == (pid_t)own_number();
}

int mc_folder_open(void)
{
    return mc_folder_is_ours() ? open_at(AT_FDCWD, path, O_RDWR | O_NOFOLLOW) : -1;
}

int mc_folder_remove(void)
{
    if (!mc_folder_is_ours()) return 0;
    long result = MC_SYSCALL_3(SYS_unlinkat, AT_FDCWD, path, 0);
    maker = 0;
    return (int)-result;
}
