/* SPDX-License-Identifier: MIT */
/* Commands from a pipe: a line each, with up to four words, and an answer of a line. What is needed
 * for that is mapped, so that the heap holds what was ordered and nothing else. */
#ifndef COMMANDS_H
#define COMMANDS_H

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SITE __attribute__((noinline))

static int input = 0, output = 1;

static void say(const char *text)
{
    char line[256];
    int size = snprintf(line, sizeof(line), "%s\n", text);
    if (write(output, line, (size_t)size) != size) _exit(3);
}

static void say_number(const char *text, long number)
{
    char line[256];
    snprintf(line, sizeof(line), "%s %ld", text, number);
    say(line);
}

static void *map(size_t size)
{
    void *memory =
        mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) _exit(3);
    return memory;
}

/* A child that takes commands too, from another pipe. */
static inline void begin_child(const char *in, const char *out)
{
    pid_t child = fork();
    if (child) {
        say_number("forked", child);
        return;
    }
    input = open(in, O_RDONLY);
    output = open(out, O_WRONLY);
    say_number("child", getpid());
}

/* Takes commands until the input ends. */
static int obey_all(void (*obey)(char *words[4]))
{
    static char line[4096];
    static size_t used;
    say_number("ready", getpid());
    for (;;) {
        ssize_t got = read(input, line + used, 1);
        if (got <= 0) return 0;
        if (line[used] != '\n') {
            used += used < sizeof(line) - 1;
            continue;
        }
        line[used] = 0;
        used = 0;
        char *words[5] = {0}, *rest = line;
        for (unsigned i = 0; i < 4 && rest; i++)
            words[i] = strsep(&rest, " ");
        obey(words);
    }
}

#endif
