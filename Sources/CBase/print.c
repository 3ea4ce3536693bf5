/* SPDX-License-Identifier: MIT */
/* See print.h. */
#include "print.h"

#include <stdlib.h>
#include <unistd.h>

#include "syscall.h"

struct mc_line mc_line_start(void)
{
    struct mc_line line;
    line.size = 0;
    mc_line_text(&line, "memctl: ");
    return line;
}

static void add(struct mc_line *line, char character)
{
    if (line->size < sizeof(line->text) - 1) /* room for the newline */
        line->text[line->size++] = character;
}

void mc_line_text(struct mc_line *line, const char *text)
{
    while (*text)
        add(line, *text++);
}

static void number(struct mc_line *line, uint64_t value, unsigned base)
{
    char digits[20];
    unsigned count = 0;
    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (count)
        add(line, digits[--count]);
}

void mc_line_hex(struct mc_line *line, uint64_t value)
{
    mc_line_text(line, "0x");
    number(line, value, 16);
}

void mc_line_decimal(struct mc_line *line, uint64_t value)
{
    number(line, value, 10);
}

void mc_line_write(struct mc_line *line)
{
    line->text[line->size++] = '\n';
    MC_SYSCALL_3(SYS_write, STDERR_FILENO, line->text, line->size); /* may fail: so be it */
}

_Noreturn void mc_panic(const char *call, const void *address, const char *what)
{
    struct mc_line line = mc_line_start();
    mc_line_text(&line, call);
    mc_line_text(&line, ": ");
    mc_line_text(&line, what);
    mc_line_text(&line, ": ");
    mc_line_hex(&line, (uint64_t)(uintptr_t)address);
    mc_line_write(&line);
    abort();
}
