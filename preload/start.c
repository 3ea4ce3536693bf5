/* SPDX-License-Identifier: MIT */
/* See start.h. */
#define _GNU_SOURCE
#include "start.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "calls.h"
#include "handler_fork.h"
#include "instrument.h"
#include "options.h"
#include "os.h"
#include "print.h"
#include "syscall.h"

static struct mc_region_options region_options(uint8_t armed)
{
    return (struct mc_region_options){.folder = mc_options.folder,
                                      .max_size = mc_options.trace_max,
                                      .heap_root = (uint64_t)&memctl_heap_root,
                                      .depth = (uint32_t)mc_options.depth,
                                      .sample = (uint32_t)mc_options.sample,
                                      .armed = armed,
                                      .keep = (uint8_t)mc_options.keep};
}

static void report(int error, const char *failed)
{
    if (!error || !mc_options.verbose) return;
    struct mc_line line = mc_line_start();
    mc_line_text(&line, "no region, so this process can't be traced: ");
    mc_line_text(&line, failed);
    mc_line_text(&line, ": ");
    mc_line_text(&line, strerrordesc_np(error));
    mc_line_write(&line);
}

void mc_start(void)
{
    static uint32_t started; /* [shared] */
    uint32_t no = 0;
    if (!mc_swap_if(&started, &no, 1)) return;
    int saved = errno;
    const char *failed = "";
    mc_options_read();
    mc_heap_huge_pages((enum mc_huge_pages)mc_options.huge);
    if (mc_options.region) {
        uint8_t armed = MC_ARMED_TRACE | (mc_options.maps ? MC_ARMED_MAPS : 0);
        struct mc_region_options options = region_options(mc_options.trace ? armed : 0);
        report(mc_region_create(&options, &failed), failed);
    } else {
        mc_region_disarm();
    }
    mc_os_fork_watch();
    mc_os_is_guest(); /* from now on it can be told */
    errno = saved;
}

/* Another thread of a forked child makes its region: what this one would count has no place until
 * then. It is a matter of a millisecond. */
static void wait_for_region(void)
{
    enum { TRIES = 100000 };
    for (int i = 0; i < TRIES && mc_os_forked(); i++)
        if (mc_call_allowed(MC_CALL_YIELD)) MC_SYSCALL_1(SYS_sched_yield, 0);
}

/* 1 in a child whose parent has ended, as a daemon's has: the region they shared lost its name with
 * the parent, so nobody could reach the child by it. Asked for once in a while. */
static int is_orphan(void)
{
    enum { PATIENCE = 16 };
    static uint32_t calls; /* [shared] */
    return mc_add(&calls, 1) % PATIENCE == PATIENCE - 1 && mc_call_allowed(MC_CALL_PARENT) &&
           (uint32_t)MC_SYSCALL_1(SYS_getppid, 0) != mc_own_region.pid;
}

/* A forked child shares its parent's region until it needs its own: to be traced, because the
 * parent's rows must not count what the child frees, or because the parent is gone. Most children
 * never do, and run another program. Not before, since it takes system calls that a sandbox may
 * have forbidden meanwhile. */
void mc_heap_on_fork(void)
{
    if (!mc_trace_has_rows() && !mc_load(&mc_own_region.armed) && !is_orphan()) return;
    if (!mc_os_fork_first(MC_FORK_REGION)) {
        wait_for_region();
        return;
    }
    if (!mc_call_allowed(MC_CALL_MAKE_FILE)) {
        mc_region_abandon();
        mc_trace_after_fork(EPERM);
        mc_mappings_after_fork(0);
        mc_os_fork_done();
        return;
    }
    int saved = errno;
    const char *failed = "";
    uint32_t only = mc_load(&mc_own_region.only_pid);
    int mine = only == (uint32_t)MC_SYSCALL_1(SYS_getpid, 0);
    struct mc_region_options options =
        region_options(!only || mine ? mc_load(&mc_own_region.armed) : 0);
    if (mine) { /* nobody else was meant */
        mc_region_disarm();
        mc_store(&mc_own_region.only_pid, 0);
    }
    int recount = mc_trace_has_rows();
    int error = mc_region_create_forked(&options, &failed);
    mc_trace_after_fork(error);
    report(error, failed);
    if (recount && !error) {
        mc_take_shard();
        mc_tags_visit(mc_trace_recount, 0);
    }
    mc_mappings_after_fork(recount && !error);
    mc_os_fork_done();
    errno = saved;
}

__attribute__((constructor)) static void construct(void)
{
    mc_start();
    mc_handler_fork_watch();
}

__attribute__((destructor)) static void destruct(void)
{
    mc_region_remove();
}

/* Ends the process without destructors, as servers' children do. */
EXPORT _Noreturn void _exit(int status)
{
    mc_region_remove();
    for (;;)
        MC_SYSCALL_1(SYS_exit_group, status);
}

EXPORT _Noreturn void _Exit(int status) __attribute__((alias("_exit")));
