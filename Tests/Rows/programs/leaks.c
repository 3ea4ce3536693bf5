/* SPDX-License-Identifier: MIT */
/* leaks COUNT [STATUS]: loses COUNT objects of 77 bytes, frees as many others, ends so. */
#include <stdlib.h>

__attribute__((noinline)) static void *lose(void)
{
    void *volatile object = malloc(77);
    return object;
}

__attribute__((noinline)) static void give_back(void)
{
    void *volatile object = malloc(55);
    free(object);
}

int main(int count, char **arguments)
{
    for (int i = count > 1 ? atoi(arguments[1]) : 0; i > 0; i--) {
        lose();
        give_back();
    }
    return count > 2 ? atoi(arguments[2]) : 0;
}
