/* SPDX-License-Identifier: MIT */
/* See test.h. */
#define _GNU_SOURCE
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77, USUAL_SECONDS = 240 };

static uint64_t seed;

_Noreturn void test_fail(const char *file, int line, const char *what)
{
    const char *name = strrchr(file, '/');
    dprintf(STDERR_FILENO, "%s:%d: %s\n", name ? name + 1 : file, line, what);
    _exit(1);
}

_Noreturn void test_skip(const char *reason)
{
    dprintf(STDERR_FILENO, "%s\n", reason);
    _exit(SKIPPED);
}

void test_together(void *(*function)(void *), void *argument)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        REQUIRE(!pthread_create(&threads[i], 0, function, argument));
    for (unsigned i = 0; i < THREADS; i++)
        REQUIRE(!pthread_join(threads[i], 0));
}

uint64_t test_scale(uint64_t usual)
{
    if (getenv("TEST_LONG")) return usual * 10;
    return getenv("TEST_SLOW") ? (usual + 4) / 5 : usual;
}

/* splitmix64 */
uint64_t random_next(struct random *random)
{
    uint64_t z = random->state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

uint64_t random_below(struct random *random, uint64_t limit)
{
    return random_next(random) % limit;
}

struct random test_random(uint64_t stream)
{
    struct random random = {seed + stream * 0x1234567};
    random_next(&random);
    return random;
}

/* -- running ------------------------------------------------------------------------------- */

/* What was written to the file, from its start. */
static size_t read_back(int file, char *text, size_t size)
{
    ssize_t got = pread(file, text, size - 1, 0);
    text[got > 0 ? got : 0] = 0;
    return got > 0 ? (size_t)got : 0;
}

static int wait_for(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) abort();
    }
    return status;
}

int test_in_child(void (*function)(void *), void *argument, char *text, size_t size)
{
    int file = memfd_create("stderr", MFD_CLOEXEC);
    pid_t child = file < 0 ? -1 : fork();
    if (child < 0) test_fail(__FILE__, __LINE__, "a child can be made");
    if (!child) {
        signal(SIGABRT, SIG_DFL);
        alarm(120);
        dup2(file, STDERR_FILENO);
        function(argument);
        _exit(0);
    }
    int status = wait_for(child);
    read_back(file, text, size);
    close(file);
    return status;
}

/* The line that says most: the first with a letter, of a sanitizer's report its WARNING or ERROR. */
static const char *reason_in(char *text)
{
    static const char *const marks[] = {"WARNING: ", "ERROR: ", "runtime error: "};
    char *start = 0;
    for (unsigned i = 0; !start && i < sizeof(marks) / sizeof(*marks); i++)
        start = strstr(text, marks[i]);
    if (!start) start = text + strspn(text, "=\n ");
    start[strcspn(start, "\n")] = 0;
    return start;
}

static int finish(const char *name, const char *variant, int status, int file)
{
    static char text[1 << 16];
    size_t size = read_back(file, text, sizeof(text));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        printf("ok core/%s [%s]\n", name, variant);
        return 0;
    }
    int skipped = WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED;
    if (!skipped && fwrite(text, 1, size, stderr) != size) return 1;
    printf("%s core/%s [%s]: ", skipped ? "skip" : "not ok", name, variant);
    if (WIFSIGNALED(status)) printf("%s: ", strsignal(WTERMSIG(status)));
    printf("%s\n", reason_in(text));
    return !skipped;
}

static int run(const struct test_case *test, const char *variant)
{
    int file = memfd_create("stderr", MFD_CLOEXEC);
    fflush(stdout);
    pid_t child = file < 0 ? -1 : fork();
    if (child < 0) {
        printf("not ok core/%s [%s]: no process can be made\n", test->name, variant);
        return 1;
    }
    if (!child) {
        setpgid(0, 0);
        dup2(file, STDERR_FILENO);
        alarm((test->seconds ? test->seconds : USUAL_SECONDS) * (getenv("TEST_LONG") ? 4 : 1));
        test->run();
        exit(0);
    }
    int status = wait_for(child);
    kill(-child, SIGKILL); /* children a failed case left behind */
    int failed = finish(test->name, variant, status, file);
    close(file);
    fflush(stdout);
    return failed;
}

static int is_wanted(const char *name, int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], name)) return 1;
    }
    return argc <= 2;
}

int test_main(int argc, char **argv, const struct test_case *cases, size_t count)
{
    const char *variant = argc > 1 ? argv[1] : "plain";
    const char *given = getenv("TEST_SEED");
    seed = given ? strtoull(given, 0, 0) : 1;
    int failed = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_wanted(cases[i].name, argc, argv)) failed |= run(&cases[i], variant);
    }
    return failed;
}
