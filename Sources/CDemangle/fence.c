/* SPDX-License-Identifier: MIT */
/* The fence: a child process that demangles names nobody vouches for.
 *
 * One message a name: a byte for the language, then the name. One message back: a byte that tells
 * success, then the text. The child may use MEMORY_MORE bytes beyond what it was forked with; a
 * name that needs more, takes longer than ANSWER_MS or crashes the demangler costs the child its
 * life, and the next name a new one. After FAILURES_MAX such names the rest are not tried: a file
 * full of them must not cost minutes.
 *
 * The child calls malloc after fork, which glibc allows in a process with threads.
 */
#define _GNU_SOURCE
#include "CDemangle.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    /* A text of MC_DEMANGLE_MAX takes far less; more means an explosion. */
    MEMORY_MORE = 64 << 20,
    /* A long honest name takes a millisecond; the rest is for a loaded machine. */
    ANSWER_MS = 1000,
    FAILURES_MAX = 16,
};

static struct {
    pthread_mutex_t mutex; /* guards all */
    pid_t child;           /* 0: none */
    int socket;
    int failures;
} fence = {.mutex = PTHREAD_MUTEX_INITIALIZER, .socket = -1};

/* ---- The child ---- */

/* Sets the limit of private memory to what is in use and MEMORY_MORE. */
static int limit_memory(void)
{
    unsigned long data_pages = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (!statm) return -1;
    int found = fscanf(statm, "%*u %*u %*u %*u %*u %lu", &data_pages);
    fclose(statm);
    if (found != 1) return -1;
    rlim_t most = data_pages * (rlim_t)sysconf(_SC_PAGESIZE) + MEMORY_MORE;
    struct rlimit data = {most, most};
    struct rlimit core = {0, 0};
    return setrlimit(RLIMIT_DATA, &data) || setrlimit(RLIMIT_CORE, &core) ? -1 : 0;
}

/* Leaves nothing of the parent's but the socket: a pipe or a terminal the child kept open would
 * keep others waiting for its end. */
static int keep_only(int socket)
{
    if (dup2(socket, 0) < 0) return -1;
    return syscall(SYS_close_range, 1u, ~0u, 0u) ? -1 : 0;
}

static void answer(char *name)
{
    static char reply[1 + MC_DEMANGLE_MAX];
    char *text = mc_demangle((enum mc_language)name[0], name + 1);
    size_t size = text ? strlen(text) : MC_DEMANGLE_MAX;
    reply[0] = size < MC_DEMANGLE_MAX;
    if (reply[0])
        memcpy(reply + 1, text, size);
    else
        size = 0;
    free(text);
    if (send(0, reply, size + 1, MSG_NOSIGNAL) < 0) _exit(0);
}

static _Noreturn void serve(int socket)
{
    static char name[1 + MC_DEMANGLE_MAX];
    for (int number = 1; number < NSIG; number++)
        signal(number, number == SIGINT ? SIG_IGN : SIG_DFL); /* Ctrl-C is for the parent */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (limit_memory() || keep_only(socket)) _exit(1);
    for (;;) {
        ssize_t size = recv(0, name, sizeof name - 1, 0);
        if (size < 0 && errno == EINTR) continue;
        if (size <= 1) _exit(0);
        name[size] = 0;
        answer(name);
    }
}

/* ---- The parent ---- */

static void end_child(void)
{
    close(fence.socket);
    kill(fence.child, SIGKILL);
    while (waitpid(fence.child, NULL, 0) < 0 && errno == EINTR) {
    }
    fence.socket = -1;
    fence.child = 0;
}

static int start_child(void)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) return -1;
    pid_t child = fork();
    if (child == 0) serve(pair[1]);
    close(pair[1]);
    if (child < 0) {
        close(pair[0]);
        return -1;
    }
    fence.child = child;
    fence.socket = pair[0];
    return 0;
}

/* Returns the size of the child's message, or -1 when there will be none. */
static ssize_t ask(enum mc_language language, const char *name, size_t size, char *reply)
{
    char header = (char)language;
    struct iovec parts[] = {{&header, 1}, {(void *)name, size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (sendmsg(fence.socket, &message, MSG_NOSIGNAL) < 0) return -1;
    struct pollfd wait = {.fd = fence.socket, .events = POLLIN};
    int ready;
    do
        ready = poll(&wait, 1, ANSWER_MS);
    while (ready < 0 && errno == EINTR);
    if (ready <= 0) return -1;
    ssize_t got = recv(fence.socket, reply, 1 + MC_DEMANGLE_MAX, 0);
    return got > 0 ? got : -1;
}

long mc_demangle_fenced(enum mc_language language, const char *name,
                        char text[static MC_DEMANGLE_MAX])
{
    static char reply[1 + MC_DEMANGLE_MAX];
    size_t size = strlen(name);
    long result = -1;
    if (size >= MC_DEMANGLE_MAX) return -1;
    pthread_mutex_lock(&fence.mutex);
    if (fence.failures < FAILURES_MAX && (fence.child || !start_child())) {
        ssize_t got = ask(language, name, size, reply);
        if (got < 0) {
            end_child();
            fence.failures++;
        } else if (reply[0]) {
            result = got - 1;
            memcpy(text, reply + 1, (size_t)result);
            text[result] = 0;
        }
    }
    pthread_mutex_unlock(&fence.mutex);
    return result;
}
