/* SPDX-License-Identifier: MIT */
/* rules_dump MODULE: for each address (hexadecimal, as in the file) on standard input prints the
 * row and the compact rule for it, one line each:
 *     ADDRESS cfa=REG+N|exp ra=WHERE rbx=WHERE ... | KIND CFA BP
 * WHERE is u (unchanged), U (undefined), c-N (at CFA - N), v+N, rN, exp, vexp. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <inttypes.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>

#include "cfi.h"
#include "rules.h"

static void print_where(const char *name, const struct mc_cfi_row *row, unsigned reg)
{
    int32_t value = row->value[reg];
    switch (row->how[reg]) {
    case MC_CFI_SAME: printf(" %s=u", name); break;
    case MC_CFI_UNDEFINED: printf(" %s=U", name); break;
    case MC_CFI_AT_CFA: printf(" %s=c%+d", name, value); break;
    case MC_CFI_IS_CFA: printf(" %s=v%+d", name, value); break;
    case MC_CFI_IN_REGISTER: printf(" %s=r%d", name, value); break;
    case MC_CFI_AT_EXPR: printf(" %s=exp", name); break;
    default: printf(" %s=vexp", name);
    }
}

static void print_row(uintptr_t address, uintptr_t pc)
{
    static const struct {
        const char *name;
        unsigned reg;
    } shown[] = {{"ra", 16},  {"rbx", 3},  {"rbp", 6}, {"r12", 12},
                 {"r13", 13}, {"r14", 14}, {"r15", 15}};
    struct mc_cfi_entry entry;
    struct mc_cfi_row row;
    int error = mc_cfi_find(pc, 0, &entry);
    if (!error) error = mc_cfi_row_at(&entry, pc, &row);
    if (error) {
        printf("%" PRIxPTR " error %d\n", address, error);
        return;
    }
    printf("%" PRIxPTR " cfa=", address);
    if (row.cfa_is_expression)
        printf("exp");
    else
        printf("%d%+d", row.cfa_register, row.cfa_value);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        print_where(shown[i].name, &row, shown[i].reg);
    uint64_t rule = mc_rule_compute(pc + 1, &entry);
    printf(" | %u %td %td\n", mc_rule_kind(rule), mc_rule_cfa(rule), (intptr_t)mc_rule_bp(rule));
}

int main(int argc, char **argv)
{
    uintptr_t address;
    void *module = argc > 1 ? dlopen(argv[1], RTLD_LAZY) : NULL;
    struct link_map *map;
    if (!module || dlinfo(module, RTLD_DI_LINKMAP, &map)) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    while (scanf("%" SCNxPTR, &address) == 1)
        print_row(address, map->l_addr + address);
    return 0;
}
