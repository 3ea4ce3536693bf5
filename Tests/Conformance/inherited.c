/* inherited.c: a program that starts under filters which others have installed, as in containers: the
 * heap can't see them coming, and still is killed for no call, and leaves no file without a name. */
/* SPDX-License-Identifier: MIT */
#include "filters.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/wait.h>

static const int odd_calls[] = {SYS_ptrace,  SYS_process_vm_readv, SYS_bpf,    SYS_userfaultfd,
                                SYS_mincore, SYS_memfd_create,     SYS_socket, SYS_io_uring_setup};

static void start_under_filters(void *unused)
{
    (void)unused;
    refuse(odd_calls, COUNT_OF(odd_calls), SECCOMP_RET_KILL_PROCESS);
    require_helper("helper_allocate", "20", NULL, 0);
    static const int refused[] = {SYS_madvise,  SYS_mremap,    SYS_fallocate, SYS_mkdir,
                                  SYS_unlinkat, SYS_renameat2, SYS_getdents64};
    refuse(refused, COUNT_OF(refused), SECCOMP_RET_ERRNO | EPERM);
    require_helper("helper_allocate", "20", NULL, 0);
}

/* What a program could not take along says whose it was, for others to do so. */
static void clear(const char *directory)
{
    static const char nothing[4096];
    char path[300], page[4096];
    DIR *entries = opendir(directory);
    REQUIRE(entries);
    for (struct dirent *each; (each = readdir(entries));) {
        if (each->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", directory, each->d_name);
        int file = open(path, O_RDONLY);
        REQUIRE(file >= 0 && read(file, page, sizeof page) == sizeof page);
        REQUIRE(memcmp(page, nothing, sizeof page) != 0);
        close(file);
        unlink(path);
    }
    closedir(entries);
    REQUIRE(rmdir(directory) == 0);
}

CASE(seccomp_inherited, "a program that starts under filters, those of containers and those that "
                        "kill for odd calls; seccomp(2)")
{
    char directory[] = "/tmp/conformance-XXXXXX";
    REQUIRE(mkdtemp(directory) && setenv("MEMCTL_DIR", directory, 1) == 0);
    int status = in_child(start_under_filters, NULL);
    if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_SKIPPED) {
        rmdir(directory);
        _exit(STATUS_SKIPPED);
    }
    REQUIRE(status == 0);
    clear(directory);
}
