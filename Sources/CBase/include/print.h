/* SPDX-License-Identifier: MIT */
/* Lines for people, made without allocation: on the stack, written with one write(2).
 *
 *     struct mc_line line = mc_line_start();        "memctl: "
 *     mc_line_text(&line, "double free of ");
 *     mc_line_hex(&line, address);
 *     mc_line_write(&line);                         to standard error, with a newline
 *
 * Text beyond the line's room is cut. Async-signal-safe; errno is kept. */
#ifndef MC_PRINT_H
#define MC_PRINT_H

#include <stddef.h>
#include <stdint.h>

struct mc_line {
    size_t size;
    char text[504];
};

struct mc_line mc_line_start(void);
void mc_line_text(struct mc_line *line, const char *text);
void mc_line_hex(struct mc_line *line, uint64_t value); /* with 0x */
void mc_line_decimal(struct mc_line *line, uint64_t value);
void mc_line_write(struct mc_line *line);

/* Misuse of the heap: prints "memctl: CALL: WHAT: ADDRESS" and aborts. */
_Noreturn void mc_panic(const char *call, const void *address, const char *what);

#endif
