/* helper_first_descriptor NUMBER: 0 if the first open() gives descriptor NUMBER. */
/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    return argc == 2 && open("/dev/null", O_RDONLY) == atoi(argv[1]) ? 0 : 1;
}
