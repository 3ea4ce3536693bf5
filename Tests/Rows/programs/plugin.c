/* SPDX-License-Identifier: MIT */
/* A library with an allocation site; built several times, with other names for it. */
#include <stdlib.h>

#ifndef NAME
#    define NAME plugin_site
#endif

__attribute__((noinline)) void *NAME(size_t size)
{
    void *volatile object = malloc(size);
    return object;
}

__attribute__((noinline)) void *plugin(size_t size)
{
    void *volatile object = NAME(size);
    return object;
}
