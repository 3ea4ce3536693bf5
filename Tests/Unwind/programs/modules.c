/* SPDX-License-Identifier: MIT */
/* Two modules with different code take turns at the same address: a cached rule that outlives its
 * module gives a wrong backtrace here. Arguments: seconds, module 1, module 2. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
    struct timespec now;
    if (argc < 4) return 64;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double end = (double)now.tv_sec + now.tv_nsec * 1e-9 + atof(argv[1]);
    void *places[2] = {NULL, NULL};
    unsigned shared = 0, turns = 0;
    for (;; turns++) {
        void *module = dlopen(argv[2 + turns % 2], RTLD_NOW);
        unsigned (*run)(unsigned) = module ? (unsigned (*)(unsigned))dlsym(module, "run") : NULL;
        if (!run) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        places[turns % 2] = (void *)run;
        shared += ((unsigned long)places[0] ^ (unsigned long)places[1]) < 4096;
        for (unsigned i = 0; i < 40; i++)
            run(i);
        dlclose(module);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if ((double)now.tv_sec + now.tv_nsec * 1e-9 > end) break;
    }
    printf("# modules: %u turns, %u at the address of the other\n", turns, shared);
    return shared < turns / 2; /* else nothing was tested */
}
