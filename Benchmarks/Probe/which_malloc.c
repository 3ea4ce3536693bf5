/* SPDX-License-Identifier: MIT */
/* Prints the file whose malloc this process calls, so that a comparison can prove that a preload
 * is really active before it measures anything. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    void *volatile held = malloc(16);
    void *found = dlsym(RTLD_DEFAULT, "malloc");
    Dl_info info;
    if (!held || !found || !dladdr(found, &info) || !info.dli_fname) return 1;
    puts(info.dli_fname);
    free(held);
    return 0;
}
