/* SPDX-License-Identifier: MIT */
/* The loader's calls that matter to us.
 *
 * dlclose(3): a library that goes may make place for another at the same addresses, so what was
 * learned of addresses belongs to an epoch, and every dlclose ends one.
 *
 * dlopen(3): RTLD_DEEPBIND makes a library look in libc before it looks here, so that it gets
 * another heap than the program it exchanges memory with, and the first free across crashes. The
 * flag is left out, and the call goes on as a jump: dlopen looks at its return address to know whose
 * search path applies. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "instrument.h"

static int (*real_close)(void *);             /* [shared] the same value whoever stores it */
static void *(*real_open)(const char *, int); /* likewise */

static void *cannot_open(const char *path, int mode)
{
    (void)path;
    (void)mode;
    return 0;
}

__attribute__((noinline)) static void find_real(void)
{
    void *(*open)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
    mc_store(&real_close, (int (*)(void *))dlsym(RTLD_NEXT, "dlclose"));
    mc_store(&real_open, open ? open : cannot_open);
}

EXPORT void *dlopen(const char *path, int mode)
{
    if (unlikely(!mc_load(&real_open))) find_real();
    return mc_load(&real_open)(path, mode & ~RTLD_DEEPBIND);
}

EXPORT int dlclose(void *handle)
{
    if (unlikely(!mc_load(&real_close))) find_real();
    int (*close)(void *) = mc_load(&real_close);
    if (!close) return -1;
    mc_trace_unload_begin();
    int result = close(handle);
    mc_trace_unload_end();
    return result;
}
