/* plugin_audit: an audit library (rtld-audit(7)). It lives in a namespace with a libc and heap of
 * its own, and sees every binding. */
/* SPDX-License-Identifier: MIT */
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

unsigned int la_version(unsigned int version)
{
    free(malloc(100));
    return version;
}

unsigned int la_objopen(struct link_map *map, Lmid_t space, uintptr_t *cookie)
{
    (void)space, (void)cookie;
    free(strdup(map->l_name));
    return LA_FLG_BINDTO | LA_FLG_BINDFROM;
}

uintptr_t la_symbind64(Elf64_Sym *symbol, unsigned int index, uintptr_t *from, uintptr_t *to,
                       unsigned int *flags, const char *name)
{
    (void)index, (void)from, (void)to, (void)flags;
    free(strdup(name));
    return symbol->st_value;
}
