/* SPDX-License-Identifier: MIT */
/* See options.h. Runs before libc's own start-up when the loader allocates first, so the
 * environment is found on the stack of the process then. */
#include "options.h"

#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>

#include "bits.h"
#include "memctl_heap.h"
#include "memctl_region.h"
#include "print.h"
#include "syscall.h"

struct mc_options mc_options = {.depth = 64, .region = 1, .trace_max = 4ull << 30};

enum kind { SWITCH, NUMBER, SIZE, TRACE, HUGE };

static const struct option {
    const char *name;
    uint64_t *value;
    enum kind kind;
    uint64_t least, most;
} table[] = {
    {"MEMCTL_TRACE", &mc_options.trace, TRACE, 0, 1},
    {"MEMCTL_TRACE_MMAP", &mc_options.maps, SWITCH, 0, 1},
    {"MEMCTL_DEPTH", &mc_options.depth, NUMBER, 1, 256},
    {"MEMCTL_KEEP", &mc_options.keep, SWITCH, 0, 1},
    {"MEMCTL_REGION", &mc_options.region, SWITCH, 0, 1},
    {"MEMCTL_TRACE_MAX", &mc_options.trace_max, SIZE, 1ull << 20, 4ull << 30},
    {"MEMCTL_HUGE_PAGES", &mc_options.huge, HUGE, 0, MC_HUGE_NEVER},
    {"MEMCTL_VERBOSE", &mc_options.verbose, SWITCH, 0, 1},
};

extern char **environ;
/* Where the kernel put argc, argv and the environment; the loader knows it before libc does. Weak:
 * a strong reference would make the library need the loader by name. */
extern void *__libc_stack_end __attribute__((weak));

static char **environment(void)
{
    if (environ) return environ;
    if (!&__libc_stack_end || !__libc_stack_end) return 0;
    const long *argc = __libc_stack_end;
    if (*argc < 0 || *argc > 1 << 22) return 0;
    char **after = (char **)(argc + 1) + *argc;
    return *after ? 0 : after + 1;
}

/* The value if `entry` is "NAME=VALUE" of this name, else NULL. */
static const char *value_of(const char *entry, const char *name)
{
    while (*name && *entry == *name) {
        entry++;
        name++;
    }
    return !*name && *entry == '=' ? entry + 1 : 0;
}

/* Hardly any is, and every process asks this of its whole environment. */
static int is_of_memctl(const char *entry)
{
    const char *at = "MEMCTL_";
    while (*at && *entry == *at) {
        entry++;
        at++;
    }
    return !*at;
}

static int same(const char *text, const char *word)
{
    while (*text && *text == *word) {
        text++;
        word++;
    }
    return *text == *word;
}

static int parse_switch(const char *text, uint64_t *value)
{
    *value = same(text, "on") || same(text, "1") || same(text, "yes");
    return *value || same(text, "off") || same(text, "0") || same(text, "no") || same(text, "");
}

/* Digits, and for sizes one of K, M, G, T behind them. */
static int parse_number(const char *text, enum kind kind, uint64_t *value)
{
    uint64_t number = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (number > UINT64_MAX / 10 - 10) return 0;
        number = number * 10 + (uint64_t)(*at - '0');
    }
    unsigned shift = 0;
    static const char units[] = "KMGT";
    for (unsigned i = 0; kind == SIZE && *at && units[i]; i++) {
        if (*at == units[i] || *at == units[i] + ('a' - 'A')) shift = 10 * (i + 1);
    }
    if (shift) at++;
    if (at == text || *at || number > UINT64_MAX >> shift) return 0;
    *value = number << shift;
    return 1;
}

/* The n for which 2^n is nearest to `size`. */
static unsigned interval_near(uint64_t size)
{
    unsigned n = 63u - (unsigned)__builtin_clzll(size);
    return n + (size - (1ull << n) > 1ull << n >> 1);
}

/* A switch, or "sampled", or "sampled:SIZE". */
static int parse_trace(const char *text, uint64_t *value)
{
    static const char word[] = "sampled";
    uint64_t size = 1ull << MC_SAMPLE_USUAL;
    if (strncmp(text, word, sizeof(word) - 1)) return parse_switch(text, value);
    text += sizeof(word) - 1;
    if (*text == ':' ? !parse_number(text + 1, SIZE, &size) : *text != 0) return 0;
    if (size < 1ull << MC_SAMPLE_LEAST || size > 1ull << MC_SAMPLE_MOST) return 0;
    mc_options.sample = interval_near(size);
    *value = 1;
    return 1;
}

/* A switch, or the name of what an enum mc_huge_pages says. */
static __attribute__((noinline)) int parse_huge(const char *text, uint64_t *value)
{
    uint64_t on;
    if (same(text, "dense")) {
        *value = MC_HUGE_DENSE;
    } else if (same(text, "always") || same(text, "never")) {
        *value = same(text, "always") ? MC_HUGE_ALWAYS : MC_HUGE_NEVER;
    } else {
        if (!parse_switch(text, &on)) return 0;
        *value = on ? MC_HUGE_ALWAYS : MC_HUGE_NEVER;
    }
    return 1;
}

static int parse(const char *text, enum kind kind, uint64_t *value)
{
    if (kind == HUGE) return parse_huge(text, value);
    if (kind == TRACE) return parse_trace(text, value);
    return kind == SWITCH ? parse_switch(text, value) : parse_number(text, kind, value);
}

static void set(const struct option *option, const char *text)
{
    uint64_t value;
    int good = parse(text, option->kind, &value);
    if (good && value >= option->least && value <= option->most) {
        *option->value = value;
        return;
    }
    if (!mc_options.verbose) return;
    struct mc_line line = mc_line_start();
    mc_line_text(&line, option->name);
    mc_line_text(&line, "=");
    mc_line_text(&line, text);
    mc_line_text(&line, " is ignored: not a value this option can have");
    mc_line_write(&line);
}

/* A copy, and absolute: programs overwrite their environment (to change their title), and their
 * working directory. One that does not fit is ignored. */
static void set_folder(const char *text)
{
    MC_TABLE static char folder[PATH_MAX];
    size_t used = 0, size = strlen(text);
    if (*text != '/') {
        long length = MC_SYSCALL_2(SYS_getcwd, folder, sizeof(folder) - 1); /* with its end */
        if (mc_syscall_failed(length) || folder[0] != '/') return;
        used = (size_t)length;
        folder[used - 1] = '/';
    }
    if (used + size >= sizeof(folder)) return;
    memcpy(folder + used, text, size + 1);
    mc_options.folder = folder;
}

static void read_entries(char **entries, int verbose_only)
{
    for (; *entries; entries++) {
        if (!is_of_memctl(*entries)) continue;
        const char *text = value_of(*entries, "MEMCTL_DIR");
        if (text && *text) set_folder(text);
        for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
            int wanted = (table[i].value == &mc_options.verbose) == verbose_only;
            text = wanted ? value_of(*entries, table[i].name) : 0;
            if (text) set(&table[i], text);
        }
    }
}

void mc_options_read(void)
{
    char **entries = environment();
    if (!entries || getauxval(AT_SECURE)) return;
    read_entries(entries, 1); /* first, so that it speaks for the others wherever it stands */
    read_entries(entries, 0);
}
