/* SPDX-License-Identifier: MIT */
/* Whose a region says it is: how the program is named before it is traced and after, and where its pid
 * counts. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calls.h"
#include "identity.h"
#include "traced.h"

static char program[MC_REGION_PATH_MAX]; /* as the kernel has it */

static void find_program(void)
{
    long size = readlink("/proc/self/exe", program, sizeof(program) - 1);
    REQUIRE(size > 0);
    program[size] = 0;
}

static const char *name_in(const char *path)
{
    return strrchr(path, '/') + 1;
}

/* As if it had been started by another path: nothing else tells whether a name was looked up. */
static void pretend(void)
{
    strcpy(mc_own_region.executable,
           "/some/where/else/and/longer/than/any/path/of/this/program/itself");
    strcpy(mc_own_region.name, "itself");
}

/* Its name is always what it was started by. */
static int is_named(const char *path)
{
    const char *started_by = (const char *)getauxval(AT_EXECFN);
    return !strcmp(mc_own_region.executable, path) &&
           !strcmp(mc_own_region.name, name_in(started_by));
}

static void create(int armed, int keep)
{
    struct mc_region_options wanted = options;
    const char *failed = "";
    wanted.armed = (uint8_t)armed;
    wanted.keep = (uint8_t)keep;
    REQUIRE_EQUAL(mc_region_create(&wanted, &failed), 0);
}

static void named_when_traced(void)
{
    make_folder();
    find_program();
    create(0, 0);
    const char *given = (const char *)getauxval(AT_EXECFN);
    REQUIRE(is_named(*given == '/' ? given : program));
    pretend();
    REQUIRE(mc_trace_ready());
    REQUIRE(is_named(program));
    pretend(); /* once is enough */
    mc_region_name();
    REQUIRE(!is_named(program));
}

static void named_at_once(void)
{
    make_folder();
    find_program();
    create(MC_ARMED_TRACE, 0);
    REQUIRE(is_named(program));
    mc_region_remove();
    create(0, 1);
    REQUIRE(is_named(program));
}

static void named_while_it_may(void)
{
    make_folder();
    find_program();
    create(0, 0);
    pretend();
    mc_calls_forbid(MC_CALL_MAKE_FILE);
    mc_region_name();
    REQUIRE(!is_named(program));
    mc_calls_permit(MC_CALL_MAKE_FILE);
    mc_region_name();
    REQUIRE(is_named(program));
}

static void counts_elsewhere(void *unused)
{
    (void)unused;
    struct stat namespace;
    REQUIRE(!stat("/proc/self/ns/pid", &namespace)); /* what is mounted counts as its parent does */
    REQUIRE_EQUAL(getpid(), 1);
    REQUIRE_EQUAL(mc_identity_pid_namespace(1), namespace.st_ino);
}

/* By the /proc that counts as the process does; by its namespace where there is none. */
static void pid_namespace(void)
{
    struct stat proc;
    char text[1024];
    REQUIRE(!stat("/proc", &proc));
    REQUIRE_EQUAL(mc_identity_pid_namespace((uint32_t)getpid()),
                  MC_NAMESPACE_OF_PROC | proc.st_dev);
    REQUIRE(!(mc_identity_pid_namespace((uint32_t)getpid() + 1) & MC_NAMESPACE_OF_PROC));
    if (unshare(CLONE_NEWPID)) test_skip("no pid namespace can be made here");
    REQUIRE_EQUAL(test_in_child(counts_elsewhere, 0, text, sizeof(text)), 0);
}

static const struct test_case cases[] = {
    {"identity_named_when_traced", named_when_traced, 0},
    {"identity_named_at_once", named_at_once, 0},
    {"identity_named_while_it_may", named_while_it_may, 0},
    {"identity_pid_namespace", pid_namespace, 0},
};
TEST_MAIN(cases)
