/* SPDX-License-Identifier: MIT */
/* See identity.h. */
#define _GNU_SOURCE
#include "identity.h"

#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>

#include "bits.h"
#include "syscall.h"

static long read_link(const char *path, char *text, uint64_t size)
{
    long length = MC_SYSCALL_3(SYS_readlink, path, text, size - 1);
    if (length >= 0) text[length] = 0;
    return length;
}

static int is_number(const char *text, uint32_t number)
{
    uint64_t value = 0;
    for (; *text >= '0' && *text <= '9' && value <= UINT32_MAX; text++)
        value = value * 10 + (uint64_t)(*text - '0');
    return !*text && value == number;
}

static int look_at(const char *path, struct stat *status)
{
    return !MC_SYSCALL_4(SYS_newfstatat, AT_FDCWD, path, status, 0);
}

uint64_t mc_identity_pid_namespace(uint32_t pid)
{
    char self[16];
    struct stat status;
    /* What is mounted there counts for one pid namespace. If it knows this process by our pid, that is
     * ours. */
    if (read_link("/proc/self", self, sizeof(self)) > 0 && is_number(self, pid) &&
        look_at("/proc", &status))
        return MC_NAMESPACE_OF_PROC | status.st_dev;
    return look_at("/proc/self/ns/pid", &status) ? status.st_ino : 0;
}

/* The string in `region` always ends, also while it is replaced. */
static void put(char *to, uint64_t size, const char *text)
{
    uint64_t i = 0;
    for (; i < size - 1 && text[i]; i++)
        to[i] = text[i];
    memset(to + i, 0, size - i);
}

static const char *last_part(const char *path)
{
    const char *part = path;
    for (const char *at = path; *at; at++) {
        if (*at == '/') part = at + 1;
    }
    return part;
}

/* Not where fexecve(3) was given a descriptor. */
static int has_name(const char *started_by)
{
    static const char descriptors[] = "/dev/fd/";
    return started_by && strncmp(started_by, descriptors, sizeof(descriptors) - 1) != 0;
}

void mc_identity_name(struct mc_region *region, int surely)
{
    MC_TABLE static char
        link[MC_REGION_PATH_MAX]; /* not on whatever stack a first traced call has */
    const char *started_by = (const char *)getauxval(AT_EXECFN), *path = started_by;
    if ((surely || !has_name(path) || *path != '/') &&
        read_link("/proc/self/exe", link, sizeof(link)) > 0)
        path = link;
    if (!path) return;
    put(region->executable, sizeof(region->executable), path);
    put(region->name, sizeof(region->name), last_part(has_name(started_by) ? started_by : path));
}
