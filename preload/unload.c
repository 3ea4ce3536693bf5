/* SPDX-License-Identifier: MIT */
/* dlclose(3): a library that goes may make place for another at the same addresses, so what was
 * learned of addresses belongs to an epoch, and every dlclose ends one. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "instrument.h"

EXPORT int dlclose(void *handle)
{
    static int (*real)(void *); /* [shared] the same value whoever stores it */
    int (*close)(void *) = __atomic_load_n(&real, __ATOMIC_RELAXED);
    if (!close) {
        close = (int (*)(void *))dlsym(RTLD_NEXT, "dlclose");
        if (!close)
            return -1;
        __atomic_store_n(&real, close, __ATOMIC_RELAXED);
    }
    mc_trace_unload_begin();
    int result = close(handle);
    mc_trace_unload_end();
    return result;
}
