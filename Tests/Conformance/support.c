/* support.c: what cases share. Declared and described in conformance.h. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

/* Formatted on the stack, and one write: a process may have given up all other system calls. */
static void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void report(const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size >= (int)sizeof text) size = sizeof text - 1;
    if (size > 0 && write(2, text, (size_t)size) != size) errno = 0;
}

void conformance_fail(const char *file, int line, const char *what)
{
    int error = errno;
    const char *base = strrchr(file, '/');
    report("%s:%d: %s (errno %d)\n", base ? base + 1 : file, line, what, error);
    _exit(STATUS_FAILED);
}

void conformance_skip(const char *reason)
{
    report("%s\n", reason);
    _exit(STATUS_SKIPPED);
}

/* Words first: the pattern is written over gigabytes. */
static uint64_t pattern_word(size_t index, unsigned seed)
{
    uint64_t x = (index + 1) * 0x9E3779B97F4A7C15u ^ (seed + 1) * 0xD1B54A32D192ED03u;
    return x ^ x >> 29;
}

void pattern_fill(void *start, size_t size, unsigned seed)
{
    char *bytes = start;
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = pattern_word(at / 8, seed);
        memcpy(bytes + at, &word, size - at < 8 ? size - at : 8);
    }
}

bool pattern_holds(const void *start, size_t size, unsigned seed)
{
    const char *bytes = start;
    for (size_t at = 0; at < size; at += 8) {
        uint64_t word = pattern_word(at / 8, seed);
        if (memcmp(bytes + at, &word, size - at < 8 ? size - at : 8) != 0) return false;
    }
    return true;
}

bool all_zero(const void *start, size_t size)
{
    const char *bytes = start;
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

uint64_t random_next(uint64_t *state)
{
    *state += 0x9E3779B97F4A7C15u;
    uint64_t x = *state;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

/* What /proc/self/NAME says now; empty if there is none. Nothing is allocated. */
static void read_own(const char *name, char *text, size_t size)
{
    ssize_t n = 0;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) n = read(fd, text, size - 1);
    if (fd >= 0) close(fd);
    text[n > 0 ? n : 0] = 0;
}

/* Field 0 of /proc/self/statm is the address space, field 1 the resident pages. */
static size_t statm_field(int field)
{
    char text[128];
    read_own("/proc/self/statm", text, sizeof text);
    REQUIRE(*text);
    char *at = text;
    size_t value = strtoul(at, &at, 10);
    if (field == 1) value = strtoul(at, &at, 10);
    return value * (size_t)sysconf(_SC_PAGESIZE);
}

size_t address_space_bytes(void)
{
    return statm_field(0);
}

/* Counted, not read off a counter: statm is behind by up to some dozens of pages for each thread or
 * processor (proc(5)), and does not know of what was swapped out. */
size_t resident_bytes(void)
{
    char text[4096];
    read_own("/proc/self/smaps_rollup", text, sizeof text);
    const char *resident = strstr(text, "\nRss:"), *swapped = strstr(text, "\nSwap:");
    if (!resident) return statm_field(1);
    size_t kib = strtoul(resident + sizeof "\nRss:" - 1, NULL, 10);
    if (swapped) kib += strtoul(swapped + sizeof "\nSwap:" - 1, NULL, 10);
    return kib << 10;
}

/* An ended thread is there for a moment after it was joined. */
void require_threads(int count)
{
    double end = seconds_now() + PATIENCE;
    while (thread_count() != count && seconds_now() < end)
        sleep_milliseconds(1);
    REQUIRE(thread_count() == count);
}

int thread_count(void)
{
    DIR *tasks = opendir("/proc/self/task");
    REQUIRE(tasks);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(tasks));)
        count += entry->d_name[0] != '.';
    closedir(tasks);
    return count;
}

double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void sleep_milliseconds(unsigned ms)
{
    struct timespec left = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

static int wait_for(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        REQUIRE(errno == EINTR);
    return status;
}

int in_child(void (*body)(void *), void *argument)
{
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        body(argument);
        _exit(0);
    }
    return wait_for(child);
}

void require_child(void (*body)(void *), void *argument)
{
    int status = in_child(body, argument);
    if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_SKIPPED) _exit(STATUS_SKIPPED);
    if (WIFSIGNALED(status)) report("the child died by signal %d\n", WTERMSIG(status));
    REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Everything `fd` gives until its end, at most size - 1 bytes and a zero. */
static size_t read_all(int fd, char *text, size_t size)
{
    size_t length = 0;
    char spill[256];
    for (;;) {
        bool full = length == size - 1;
        ssize_t n =
            full ? read(fd, spill, sizeof spill) : read(fd, text + length, size - 1 - length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        if (!full) length += (size_t)n;
    }
    text[length] = 0;
    return length;
}

void require_abort(void (*body)(void *), void *argument, const char *word, const void *address)
{
    int out[2], err[2];
    REQUIRE(pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        alarm(PATIENCE);
        dup2(out[1], 1);
        dup2(err[1], 2);
        body(argument);
        _exit(0);
    }
    close(out[1]);
    close(err[1]);
    char said[1024], line[1024], hex[32];
    size_t length = read_all(err[0], line, sizeof line);
    size_t to_stdout = read_all(out[0], said, sizeof said);
    close(out[0]);
    close(err[0]);
    int status = wait_for(child);
    snprintf(hex, sizeof hex, "%lx", (unsigned long)(uintptr_t)address);
    bool right = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && to_stdout == 0 &&
                 length > 0 && strchr(line, '\n') == line + length - 1 && strstr(line, hex) &&
                 (!word || strcasestr(line, word));
    if (!right)
        report("want an abort, one line with \"%s\" and 0x%s; %s %d, stderr: %s\n",
               word ? word : "", hex, WIFSIGNALED(status) ? "got signal" : "got status",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
               length ? line : "(nothing)");
    if (!right) _exit(STATUS_FAILED);
}

const char *beside(const char *name)
{
    static char path[PATH_MAX + 256];
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    REQUIRE(n > 0);
    self[n] = 0;
    *strrchr(self, '/') = 0;
    snprintf(path, sizeof path, "%s/%s", self, name);
    return path;
}

void require_helper(const char *name, const char *argument, char *output, size_t size)
{
    const char *path = beside(name);
    int out[2];
    REQUIRE(pipe2(out, O_CLOEXEC) == 0);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        dup2(out[1], 1);
        execl(path, name, argument, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    char ignored[256];
    read_all(out[0], output ? output : ignored, output ? size : sizeof ignored);
    close(out[0]);
    int status = wait_for(child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_SKIPPED) _exit(STATUS_SKIPPED);
    if (WIFSIGNALED(status))
        report("%s died by signal %d\n", name, WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        report("%s ended with %d\n", name, WEXITSTATUS(status));
    REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void use_all_sizes(void)
{
    for (size_t n = 1; n <= (size_t)64 << 20; n *= 2) {
        char *p = malloc(n), *q = memalign(4096, n), *r = calloc(1, n);
        REQUIRE(p && q && r && r[n - 1] == 0);
        p[0] = q[n - 1] = r[0] = 1;
        p = realloc(p, n * 2);
        REQUIRE(p);
        free(q);
        free(p);
        free(r);
    }
    for (int i = 0; i < 20000; i++)
        free(malloc((size_t)i));
    malloc_trim(0);
}

void *run_thread(void *(*body)(void *), void *argument, size_t stack)
{
    pthread_t thread;
    pthread_attr_t attributes;
    void *result = NULL;
    REQUIRE(pthread_attr_init(&attributes) == 0);
    if (stack) REQUIRE(pthread_attr_setstacksize(&attributes, stack) == 0);
    REQUIRE(pthread_create(&thread, &attributes, body, argument) == 0);
    REQUIRE(pthread_join(thread, &result) == 0);
    pthread_attr_destroy(&attributes);
    return result;
}

size_t huge_page_rest(void)
{
    char mode[64] = "";
    FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
    if (file && !fgets(mode, sizeof mode, file)) mode[0] = 0;
    if (file) fclose(file);
    return strstr(mode, "[always]") ? 2 << 20 : 0;
}
