/* SPDX-License-Identifier: MIT */
/* Runs a command that the kernel refuses a call: as a container's filter, or an older kernel, does.
 *
 *     refuse nodes COMMAND...    move_pages(2): EPERM
 *     refuse scan COMMAND...     ioctl(2) PAGEMAP_SCAN and PROCMAP_QUERY: ENOTTY */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field)       BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS(value, by) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (by))
#define RETURN(value)     BPF_STMT(BPF_RET | BPF_K, (value))

static struct sock_filter nodes[] = {
    LOAD(nr),
    UNLESS(SYS_move_pages, 1),
    RETURN(SECCOMP_RET_ERRNO | EPERM),
    RETURN(SECCOMP_RET_ALLOW),
};

static struct sock_filter scan[] = {
    LOAD(nr),
    UNLESS(SYS_ioctl, 5),
    LOAD(args[1]),
    UNLESS(0xc0606610, 1),
    RETURN(SECCOMP_RET_ERRNO | ENOTTY),
    UNLESS(0xc0686611, 1),
    RETURN(SECCOMP_RET_ERRNO | ENOTTY),
    RETURN(SECCOMP_RET_ALLOW),
};

int main(int argc, char **argv)
{
    struct sock_fprog program = {sizeof(nodes) / sizeof(*nodes), nodes};
    if (argc < 3) return 1;
    if (!strcmp(argv[1], "scan")) {
        program.len = sizeof(scan) / sizeof(*scan);
        program.filter = scan;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        return 1;
    execvp(argv[2], argv + 2);
    return 127;
}
