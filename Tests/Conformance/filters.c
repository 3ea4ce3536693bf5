/* filters.c: see filters.h. */
/* SPDX-License-Identifier: MIT */
#include "filters.h"

#include <sys/prctl.h>

struct sock_fprog make_filter(struct sock_filter *program, const int *allowed, size_t count,
                              unsigned otherwise)
{
    REQUIRE(count <= FILTER_CALLS);
    size_t at = 0;
    program[at++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < count; i++) {
        program[at++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[i], 0, 1);
        program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    program[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, otherwise);
    return (struct sock_fprog){(unsigned short)at, program};
}

static void install(const struct sock_fprog *filter)
{
    REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter) != 0) SKIP("no seccomp filters here");
}

void install_filter(const int *allowed, size_t count, unsigned otherwise)
{
    struct sock_filter program[FILTER_SIZE];
    struct sock_fprog filter = make_filter(program, allowed, count, otherwise);
    install(&filter);
}

void refuse(const int *refused, size_t count, unsigned otherwise)
{
    struct sock_filter program[FILTER_SIZE];
    struct sock_fprog filter = make_filter(program, refused, count, SECCOMP_RET_ALLOW);
    for (size_t i = 0; i < count; i++)
        program[2 + 2 * i].k = otherwise;
    install(&filter);
}
