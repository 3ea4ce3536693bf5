/* presence.c: cases about what must not be noticed: the heap adds no descriptor, thread, handler,
 * output or other change to the process it lives in. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <glob.h>
#include <link.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static void use_the_heap(void)
{
    for (size_t n = 1; n <= (size_t)64 << 20; n *= 2) {
        char *p = malloc(n), *q = memalign(4096, n);
        REQUIRE(p && q);
        p[0] = q[n - 1] = 1;
        p = realloc(p, n * 2);
        free(q);
        free(p);
    }
    for (int i = 0; i < 10000; i++)
        free(malloc((size_t)i));
    malloc_trim(0);
}

static void *use_in_thread(void *unused)
{
    use_the_heap();
    return unused;
}

/* Whoever started this program may have left descriptors open; the helper starts without. */
CASE(no_descriptor_is_held,
     "only 0, 1 and 2 are open, at the start and later; open(2): lowest number")
{
    close_range(3, ~0u, 0);
    require_helper("helper_descriptors", NULL, NULL, 0);
}

CASE(descriptors_0_to_2_stay_closed, "a program started with 0 closed gets 0 from its first open()")
{
    close(0);
    char text[64];
    require_helper("helper_first_descriptor", "0", text, sizeof text);
}

CASE(no_thread_is_added, "the process has the threads it made; /proc/self/task")
{
    REQUIRE(thread_count() == 1);
    use_the_heap();
    REQUIRE(thread_count() == 1);
    run_thread(use_in_thread, NULL, 0);
    require_threads(1);
}

CASE(no_signal_is_touched,
     "every disposition, the mask and pending set are as exec left them; signal(7)")
{
    struct sigaction action;
    sigset_t mask;
    use_the_heap();
    for (int number = 1; number < NSIG; number++) {
        if (sigaction(number, NULL, &action) != 0) continue;
        REQUIRE(action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN);
    }
    REQUIRE(sigprocmask(SIG_SETMASK, NULL, &mask) == 0);
    for (int number = 1; number < NSIG; number++)
        REQUIRE(sigismember(&mask, number) != 1);
    stack_t stack;
    REQUIRE(sigaltstack(NULL, &stack) == 0 && (stack.ss_flags & SS_DISABLE));
}

CASE(no_timer_is_set, "no interval timer, no alarm; setitimer(2)")
{
    use_the_heap();
    for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
        struct itimerval timer;
        REQUIRE(getitimer(which, &timer) == 0);
        REQUIRE(timer.it_value.tv_sec == 0 && timer.it_value.tv_usec == 0);
    }
    REQUIRE(alarm(0) == 0);
}

/* A container may have set it for all that run in it. */
static int parents_no_new_privileges(void)
{
    char path[64], line[256];
    int value = 0;
    snprintf(path, sizeof path, "/proc/%d/status", getppid());
    FILE *status = fopen(path, "r");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "NoNewPrivs: %d", &value) == 1) break;
    if (status) fclose(status);
    return value;
}

CASE(process_attributes_are_kept, "umask, dumpable, name, nice and stack limit are as before")
{
    umask(027);
    char name[17] = {0}, after[17] = {0};
    struct rlimit before_stack, after_stack;
    getrlimit(RLIMIT_STACK, &before_stack);
    prctl(PR_GET_NAME, name);
    int dumpable = prctl(PR_GET_DUMPABLE), nice_value = getpriority(PRIO_PROCESS, 0);
    int no_new_privileges = parents_no_new_privileges();
    use_the_heap();
    prctl(PR_GET_NAME, after);
    getrlimit(RLIMIT_STACK, &after_stack);
    REQUIRE(umask(022) == 027 && strcmp(name, after) == 0);
    REQUIRE(prctl(PR_GET_DUMPABLE) == dumpable && getpriority(PRIO_PROCESS, 0) == nice_value);
    REQUIRE(memcmp(&before_stack, &after_stack, sizeof before_stack) == 0);
    REQUIRE(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == no_new_privileges);
}

CASE(umask_is_kept_at_start,
     "a program started with umask 077 has it, one with 0 has that; umask(2)")
{
    umask(077);
    require_helper("helper_umask", "077", NULL, 0);
    umask(0);
    require_helper("helper_umask", "0", NULL, 0);
}

CASE(nothing_is_printed, "no output on stdout or stderr, from start to exit")
{
    char command[4096];
    snprintf(command, sizeof command, "%s 5 2>&1", beside("helper_allocate"));
    FILE *pipe = popen(command, "r");
    REQUIRE(pipe && getc(pipe) == EOF);
    REQUIRE(pclose(pipe) == 0);
}

CASE(environment_reaches_children,
     "LD_PRELOAD and all else is passed on, nothing is added; execve(2)")
{
    char *preload = getenv("LD_PRELOAD");
    char want[4096], got[4096];
    snprintf(want, sizeof want, "%s", preload ? preload : "");
    FILE *pipe = popen("printf %s \"$LD_PRELOAD\"", "r");
    REQUIRE(pipe);
    size_t n = fread(got, 1, sizeof got - 1, pipe);
    got[n] = 0;
    REQUIRE(pclose(pipe) == 0 && strcmp(want, got) == 0);
    for (char **variable = environ; *variable; variable++)
        REQUIRE(strncmp(*variable, "MEMCTL_", 7) != 0 ||
                strncmp(*variable, "MEMCTL_TRACE=", 13) == 0);
}

CASE(cleared_environment_is_no_trouble, "clearenv(3), unsetenv and a NULL environ")
{
    REQUIRE(clearenv() == 0);
    use_the_heap();
    run_thread(use_in_thread, NULL, 0);
    REQUIRE(setenv("A", "b", 1) == 0 && strcmp(getenv("A"), "b") == 0);
    char *arguments[] = {(char *)"helper_allocate", (char *)"5", NULL};
    char *nothing[] = {NULL};
    const char *path = beside("helper_allocate");
    int status;
    pid_t child = fork();
    if (child == 0) {
        execve(path, arguments, nothing);
        _exit(127);
    }
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);
}

/* A file named by the number of `pid`, in /dev/shm or a folder there, that is no older than
 * `since`: an earlier process of that number may have been killed, and have left one. */
static bool left_in_shared_memory(pid_t pid, struct timespec since)
{
    char pattern[64];
    struct stat info;
    glob_t found;
    bool left = false;
    snprintf(pattern, sizeof pattern, "/dev/shm{/,/*/}{%d,%d.*}", pid, pid);
    if (glob(pattern, GLOB_BRACE, NULL, &found) != 0) return false;
    for (size_t i = 0; i < found.gl_pathc; i++)
        left |= lstat(found.gl_pathv[i], &info) == 0 && info.st_ctim.tv_sec >= since.tv_sec;
    globfree(&found);
    return left;
}

CASE(no_file_is_left,
     "a process that ended by exit or _exit, forked or not, leaves no file in /dev/shm")
{
    char helper[4096];
    snprintf(helper, sizeof helper, "%s", beside("helper_allocate"));
    for (int kind = 0; kind < 3; kind++) {
        int status;
        struct timespec begun;
        clock_gettime(CLOCK_REALTIME_COARSE, &begun);
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            use_the_heap();
            if (kind == 0) execl(helper, helper, "5", (char *)NULL);
            if (kind == 1) _exit(0);
            exit(0);
        }
        REQUIRE(waitpid(child, &status, 0) == child && status == 0);
        REQUIRE(!left_in_shared_memory(child, begun));
    }
}

CASE(no_child_is_made, "wait() finds no child the program did not make; wait(2)")
{
    use_the_heap();
    REQUIRE(wait(NULL) == -1 && errno == ECHILD);
}

static int needed_count;
static bool needs_only_libc = true;

static int look_at_needed(struct dl_phdr_info *info, size_t size, void *library)
{
    (void)size;
    if (info->dlpi_addr != (uintptr_t)library) return 0;
    const ElfW(Dyn) *dynamic = NULL;
    const char *strings = NULL;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            dynamic = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    for (const ElfW(Dyn) *d = dynamic; d && d->d_tag; d++) {
        if (d->d_tag == DT_TEXTREL) needs_only_libc = false;
        if (d->d_tag == DT_STRTAB) strings = (const char *)d->d_un.d_ptr;
    }
    for (const ElfW(Dyn) *d = dynamic; d && strings && d->d_tag; d++) {
        if (d->d_tag != DT_NEEDED) continue;
        needed_count++;
        const char *name = strings + d->d_un.d_val;
        if (strcmp(name, "libc.so.6") != 0 && strcmp(name, "ld-linux-x86-64.so.2") != 0)
            needs_only_libc = false;
    }
    return 1;
}

CASE_OURS(library_needs_libc_only, "the library pulls nothing else into the process; no text "
                                   "relocations")
{
    Dl_info info;
    REQUIRE(dladdr((void *)(uintptr_t)dlsym(RTLD_DEFAULT, "malloc"), &info) != 0);
    dl_iterate_phdr(look_at_needed, info.dli_fbase);
    REQUIRE(needed_count >= 1 && needs_only_libc);
}

/* What a library interposes by accident changes programs that define or look for the same name. */
CASE_OURS(all_entry_points_are_ours,
          "every name of the malloc family comes from the same library: a "
          "block never meets another heap")
{
    static const char *const names[] = {"malloc",
                                        "calloc",
                                        "realloc",
                                        "reallocarray",
                                        "free",
                                        "posix_memalign",
                                        "aligned_alloc",
                                        "memalign",
                                        "valloc",
                                        "pvalloc",
                                        "malloc_usable_size",
                                        "malloc_trim",
                                        "mallinfo",
                                        "mallinfo2",
                                        "malloc_info",
                                        "malloc_stats",
                                        "mallopt",
                                        "__libc_malloc",
                                        "__libc_calloc",
                                        "__libc_realloc",
                                        "__libc_free",
                                        "__libc_memalign",
                                        "__libc_valloc",
                                        "__libc_pvalloc"};
    Dl_info ours, info;
    REQUIRE(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &ours) && !strstr(ours.dli_fname, "libc.so"));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *function = dlsym(RTLD_DEFAULT, names[i]);
        bool same = function && dladdr(function, &info) && info.dli_fbase == ours.dli_fbase;
        if (!same) conformance_fail(__FILE__, __LINE__, names[i]);
    }
}
