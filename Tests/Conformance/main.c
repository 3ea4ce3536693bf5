/* main.c: the table of cases and the program that runs one.
 *
 *     conformance NAME        run one case: 0 passed, 1 failed, 77 skipped, else it crashed
 *     conformance --list      one line per case: name, tab, `both` or `ours`, tab, promise
 *
 * Linked into the C and the C++ program alike. One case per process: whatever a case leaves
 * behind (limits, handlers, a full heap) ends with it. */
/* SPDX-License-Identifier: MIT */
#include "conformance.h"

/* Made by the linker: first and one past the last pointer of the section. */
extern const struct conformance_case *const __start_conformance_cases[];
extern const struct conformance_case *const __stop_conformance_cases[];

static void list_cases(void)
{
    for (const struct conformance_case *const *entry = __start_conformance_cases;
         entry < __stop_conformance_cases; entry++) {
        const struct conformance_case *c = *entry;
        printf("%s\t%s\t%s\n", c->name, c->only_ours ? "ours" : "both", c->promise);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        list_cases();
        return 0;
    }
    if (argc != 2) {
        fprintf(stderr, "usage: conformance NAME | --list\n");
        return 64;
    }
    for (const struct conformance_case *const *entry = __start_conformance_cases;
         entry < __stop_conformance_cases; entry++) {
        if (strcmp((*entry)->name, argv[1]) != 0) continue;
        (*entry)->run();
        return 0;
    }
    fprintf(stderr, "conformance: no case named %s\n", argv[1]);
    return 64;
}
