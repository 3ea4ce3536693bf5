/* helper_leave_plugins: loads the plugins that lie beside it and leaves them to exit(). */
/* SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void open_beside(const char *name)
{
    char path[PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
    if (n <= 0) _exit(10);
    path[n] = 0;
    strcpy(strrchr(path, '/') + 1, name);
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!library) _exit(11);
    void *(*run)(void *) = (void *(*)(void *))dlsym(library, "plugin_thread");
    if (run) run(NULL);
}

int main(void)
{
    open_beside("plugin_c.so");
    open_beside("plugin_cxx.so");
    return 0;
}
