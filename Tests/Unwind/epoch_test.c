/* SPDX-License-Identifier: MIT */
/* Epochs: rules learnt before the end of one are forgotten, by whoever else walks meanwhile too. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "captured.h"
#include "cfi.h"
#include "check.h"
#include "rules.h"

static void forgets_at_the_end_of_an_epoch(void)
{
    struct mc_unwind_start start;
    MC_UNWIND_CAPTURE(&start);
    capture(DEPTH);
    CHECK(flags == MC_UNWIND_COMPLETE);
    size_t place = mc_rule_place(frames[0].pc), before = count;
    CHECK(mc_rule_is_data(mc_rule_at(place, frames[0].pc)) ||
          mc_rule_is_data(mc_rule_at(place ^ MC_RULE_OTHER_WAY, frames[0].pc)));
    mc_unwind_epoch_begin();
    capture(DEPTH);
    CHECK(flags == (MC_UNWIND_COMPLETE | MC_UNWIND_EXACT) && count == before);
    mc_unwind_epoch_begin();
    mc_unwind_epoch_end();
    capture(DEPTH);
    CHECK(flags & MC_UNWIND_EXACT); /* the outer one is not over */
    mc_unwind_epoch_end();
    for (size_t i = 0; i < MC_RULE_COUNT; i++)
        CHECK(mc_rule_is_data(mc_rule_table[i]) && mc_rule_kind(mc_rule_table[i]) == MC_RULE_EMPTY);
    capture(DEPTH);
    CHECK(flags == MC_UNWIND_COMPLETE && count == before);
}

static void *begin_an_epoch(void *argument)
{
    mc_unwind_epoch_begin();
    return argument;
}

static void starts_anew_in_a_forked_child(void)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, begin_an_epoch, NULL) == 0);
    pthread_join(thread, NULL);
    pid_t child = fork();
    if (child == 0) {
        mc_unwind_epoch_forked();
        capture(DEPTH);
        _exit(flags == MC_UNWIND_COMPLETE ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
    mc_unwind_epoch_end();
}

static _Atomic int racing;

static void *wipe_for_ever(void *argument)
{
    while (racing) {
        mc_unwind_epoch_begin();
        mc_unwind_epoch_end();
    }
    return argument;
}

/* Each with arrays of its own: `frames` is shared. */
static __attribute__((noinline)) size_t own_capture(struct mc_frame_site *own, unsigned depth,
                                                    unsigned *own_flags)
{
    if (depth) return own_capture(own, depth - 1, own_flags) + (sink & 0);
    struct mc_unwind_start start;
    MC_UNWIND_CAPTURE(&start);
    size_t n = mc_unwind(&start, own, DEPTH, own_flags);
    sink++;
    return n;
}

/* The loop may be peeled, so that its frame has more than one return address: it is left out. */
enum { COMPARED = 20 };

static void *compare_for_ever(void *argument)
{
    struct mc_frame_site first[DEPTH], now[DEPTH];
    unsigned now_flags;
    size_t wrong = 0, expected = own_capture(first, COMPARED, &now_flags);
    while (racing) {
        size_t got = own_capture(now, COMPARED, &now_flags);
        if (got != expected || !(now_flags & MC_UNWIND_COMPLETE) ||
            memcmp(first, now, COMPARED * sizeof *now))
            wrong++;
    }
    *(size_t *)argument = wrong;
    return NULL;
}

static void agrees_while_others_wipe(void)
{
    pthread_t threads[4];
    size_t wrong[4] = {0};
    racing = 1;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, i ? compare_for_ever : wipe_for_ever, &wrong[i]);
    usleep(400000);
    racing = 0;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK(wrong[1] + wrong[2] + wrong[3] == 0);
}

/* 0: all as it has to be. Leaves the process without a module. */
static int walk_where_a_module_was(const void *symbol)
{
    struct dl_find_object module;
    struct mc_cfi_entry entry;
    ucontext_t context;
    uintptr_t pc = (uintptr_t)symbol + 8;
    mc_unwind_epoch_begin();
    if (getcontext(&context) || _dl_find_object((void *)pc, &module)) return 1;
    context.uc_mcontext.gregs[REG_RIP] = (greg_t)pc;
    mc_unwind_context(&context, frames, DEPTH, &flags);
    if (mc_cfi_find(pc, 1, &entry)) return 2;
    if (munmap(module.dlfo_map_start, (char *)module.dlfo_map_end - (char *)module.dlfo_map_start))
        return 3;
    if (_dl_find_object((void *)pc, &module)) return 4;
    mc_unwind_context(&context, frames, DEPTH, &flags);
    return mc_cfi_find(pc, 1, &entry) == ESRCH ? 0 : 5;
}

/* As a signal handler finds it that interrupts dlclose() behind munmap(): the loader still names a module that
 * is not there. A register that was damaged leads into it. */
static void a_module_that_has_gone_is_not_read(void)
{
    void *library = dlopen("libz.so.1", RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "inflate") : NULL;
    int status = 1;
    if (!symbol) {
        printf("# no libz.so.1 here\n");
        return;
    }
    pid_t child = fork();
    if (child == 0) _exit(walk_where_a_module_was(symbol));
    waitpid(child, &status, 0);
    CHECK(status == 0);
    dlclose(library);
}

int main(void)
{
    TEST(forgets_at_the_end_of_an_epoch);
    TEST(starts_anew_in_a_forked_child);
    TEST(agrees_while_others_wipe);
    TEST(a_module_that_has_gone_is_not_read);
    return check_failed_tests != 0;
}
