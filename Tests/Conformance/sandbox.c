/* sandbox.c: cases about processes that may do little: chroot, dropped privileges, no or odd
 * /dev/shm, no descriptors. Whatever tracing needs and can't have there, the
 * heap must not notice. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <fcntl.h>
#include <grp.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* --- root, user and files -------------------------------------------------------------------- */

static void *use_in_thread(void *unused)
{
    use_all_sizes();
    return unused;
}

static void use_in_child(void *unused)
{
    (void)unused;
    use_all_sizes();
}

static void live_in_chroot(void *directory)
{
    if (chroot(directory) != 0 || chdir("/") != 0) SKIP("chroot is not permitted");
    use_all_sizes();
    run_thread(use_in_thread, NULL, 0);
    if (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0) SKIP("setuid fails");
    use_all_sizes();
    run_thread(use_in_thread, NULL, 0);
    require_child(use_in_child, NULL);
}

CASE(chroot_into_nothing, "an empty root directory, then an unprivileged user; chroot(2)")
{
    char directory[] = "/tmp/conformance-XXXXXX";
    REQUIRE(mkdtemp(directory));
    int status = in_child(live_in_chroot, directory);
    rmdir(directory);
    if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_SKIPPED) _exit(STATUS_SKIPPED);
    REQUIRE(status == 0);
}

static void drop_and_regain(void *unused)
{
    (void)unused;
    if (seteuid(65534) != 0) SKIP("seteuid is not permitted");
    use_all_sizes();
    require_child(use_in_child, NULL);
    REQUIRE(seteuid(0) == 0);
    use_all_sizes();
    if (setresuid(65534, 65534, 65534) != 0) SKIP("setresuid is not permitted");
    use_all_sizes();
    require_helper("helper_allocate", "5", NULL, 0);
}

CASE(dropped_privileges, "seteuid, setresuid and programs started as another user; seteuid(2)")
{
    require_child(drop_and_regain, NULL);
}

/* In a mount namespace of its own, with `options` of a tmpfs over /dev/shm. */
static void with_shared_memory_directory(const char *options, unsigned long flags)
{
    if (unshare(CLONE_NEWNS) != 0) SKIP("no mount namespace: unshare is not permitted");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) SKIP("mount is not permitted");
    if (mount("tmpfs", "/dev/shm", "tmpfs", flags, options) != 0) SKIP("tmpfs can't be mounted");
}

static void require_normal_life(void)
{
    char command[4096], text[256];
    require_helper("helper_allocate", "20", NULL, 0);
    snprintf(command, sizeof command, "%s 5 2>&1", beside("helper_allocate"));
    FILE *pipe = popen(command, "r");
    REQUIRE(pipe && !fgets(text, sizeof text, pipe) && pclose(pipe) == 0);
    close_range(3, ~0u, 0);
    require_helper("helper_descriptors", NULL, NULL, 0);
}

CASE(shm_full, "/dev/shm without a free page: no SIGBUS, no output")
{
    with_shared_memory_directory("size=8k", 0);
    int fd = open("/dev/shm/full", O_CREAT | O_WRONLY, 0600);
    char page[4096] = {1};
    REQUIRE(fd >= 0);
    while (write(fd, page, sizeof page) > 0)
        continue;
    close(fd);
    require_normal_life();
}

CASE(shm_nearly_full, "/dev/shm that fills up while the program runs")
{
    with_shared_memory_directory("size=64k", 0);
    require_normal_life();
}

CASE(shm_without_inodes, "/dev/shm in which no file can be made")
{
    with_shared_memory_directory("nr_inodes=1", 0);
    require_normal_life();
}

CASE(shm_read_only, "/dev/shm mounted read-only")
{
    with_shared_memory_directory("", MS_RDONLY);
    require_normal_life();
}

CASE(shm_missing, "no /dev/shm at all")
{
    if (unshare(CLONE_NEWNS) != 0) SKIP("no mount namespace: unshare is not permitted");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) SKIP("mount is not permitted");
    if (umount2("/dev/shm", MNT_DETACH) != 0 && errno != EINVAL)
        SKIP("/dev/shm can't be unmounted");
    if (mount("tmpfs", "/dev", "tmpfs", 0, "mode=755") != 0) SKIP("tmpfs can't be mounted");
    /* What a program expects of /dev, but no shm. */
    REQUIRE(mknod("/dev/null", S_IFCHR | 0666, (1 << 8) | 3) == 0);
    require_normal_life();
}

CASE(shm_of_another_user,
     "a directory of the expected name that belongs to somebody else or is a link")
{
    with_shared_memory_directory("mode=1777", 0);
    REQUIRE(mkdir("/dev/shm/memctl-0", 0777) == 0 && chown("/dev/shm/memctl-0", 65534, 65534) == 0);
    require_normal_life();
    REQUIRE(rmdir("/dev/shm/memctl-0") == 0 && mkdir("/dev/shm/other", 0777) == 0);
    REQUIRE(symlink("/dev/shm/other", "/dev/shm/memctl-0") == 0);
    require_normal_life();
    REQUIRE(unlink("/dev/shm/memctl-0") == 0 && rmdir("/dev/shm/other") == 0);
    int fd = open("/dev/shm/memctl-0", O_CREAT | O_WRONLY, 0666);
    REQUIRE(fd >= 0 && close(fd) == 0);
    require_normal_life();
}

CASE(proc_missing, "no /proc: the heap needs none")
{
    if (unshare(CLONE_NEWNS) != 0) SKIP("no mount namespace: unshare is not permitted");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) SKIP("mount is not permitted");
    char helper[4096];
    snprintf(helper, sizeof helper, "%s", beside("helper_allocate"));
    if (mount("tmpfs", "/proc", "tmpfs", 0, "") != 0) SKIP("tmpfs can't be mounted");
    int status;
    pid_t child = fork();
    if (child == 0) {
        execl(helper, helper, "20", (char *)NULL);
        _exit(127);
    }
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);
    use_all_sizes();
}

CASE(pid_namespace, "process 1 of a pid namespace; pid_namespaces(7)")
{
    if (unshare(CLONE_NEWPID) != 0) SKIP("no pid namespace: unshare is not permitted");
    require_helper("helper_allocate", "5", NULL, 0);
}

CASE(no_descriptors_before_start, "RLIMIT_NOFILE of 3: a program starts and runs; setrlimit(2)")
{
    close_range(3, ~0u, 0);
    char helper[4096];
    snprintf(helper, sizeof helper, "%s", beside("helper_allocate"));
    int status;
    pid_t child = fork();
    if (child == 0) {
        /* The loader opens files, one at a time: it needs one descriptor. */
        struct rlimit limit = {4, 4};
        setrlimit(RLIMIT_NOFILE, &limit);
        execl(helper, helper, "20", (char *)NULL);
        _exit(127);
    }
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);
}

CASE(no_descriptors_later, "RLIMIT_NOFILE of 3 and all closed: the heap goes on")
{
    struct rlimit limit = {3, 3};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    use_all_sizes();
    run_thread(use_in_thread, NULL, 0);
    require_child(use_in_child, NULL);
    close(0);
    close(1);
    use_all_sizes();
    run_thread(use_in_thread, NULL, 0);
}

CASE(all_descriptors_closed_before_start,
     "a program started with 0, 1 and 2 closed, as daemons are")
{
    char helper[4096];
    snprintf(helper, sizeof helper, "%s", beside("helper_allocate"));
    int status;
    pid_t child = fork();
    if (child == 0) {
        close_range(0, ~0u, 0);
        execl(helper, helper, "20", (char *)NULL);
        _exit(127);
    }
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);
}

CASE(file_size_limit, "RLIMIT_FSIZE of 0: no SIGXFSZ; setrlimit(2)")
{
    struct rlimit limit = {0, 0};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    use_all_sizes();
    run_thread(use_in_thread, NULL, 0);
    require_helper("helper_allocate", "5", NULL, 0);
    require_child(use_in_child, NULL);
}

CASE(process_limit, "RLIMIT_NPROC of 0: the heap needs no thread; setrlimit(2)")
{
    if (seteuid(65534) != 0) SKIP("root is not limited");
    struct rlimit limit = {0, 0};
    REQUIRE(setrlimit(RLIMIT_NPROC, &limit) == 0);
    use_all_sizes();
}
