/* helper_umask OCTAL: 0 if the process started with this umask. */
/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
    return argc == 2 && umask(0) == (mode_t)strtoul(argv[1], NULL, 8) ? 0 : 1;
}
