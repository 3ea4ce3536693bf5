/* SPDX-License-Identifier: MIT */
/* Pairs of malloc and free before tracing was ever on, while it is, while it samples, and after it
 * was turned off: as memctl does it, by stores in the region's file, whose folder is the argument. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PHASE __attribute__((noinline))
enum { PAIRS = 20000, SETTLE = 200000 };

static void pairs(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        void *volatile object = malloc(i % 512);
        free(object);
    }
}

PHASE void pairs_before(void)
{
    pairs(PAIRS);
}

PHASE void pairs_traced(void)
{
    pairs(PAIRS);
}

PHASE void pairs_sampled(void)
{
    pairs(PAIRS);
}

PHASE void pairs_after(void)
{
    pairs(PAIRS);
}

enum { ARMED = 0, SAMPLE = 32, DIRECT = 40 }; /* offsets in the region */
/* An interval of which these pairs ask for half a hundredth, so that none is sampled but by a rare chance; what DIRECT
 * is when nothing is armed. */
enum { RARELY = 30, BELOW = 1025 };

/* `sample` is the interval's power of two; 0: every allocation. */
static void arm(const char *folder, char value, uint32_t sample)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%d", folder, (int)getpid());
    uint64_t direct = value ? 0 : BELOW;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0 || pwrite(file, &sample, sizeof(sample), SAMPLE) != sizeof(sample) ||
        pwrite(file, &value, 1, ARMED) != 1 ||
        pwrite(file, &direct, sizeof(direct), DIRECT) != sizeof(direct)) {
        perror(path);
        exit(1);
    }
    close(file);
}

int main(int count, char **arguments)
{
    if (count != 2) return 64;
    pairs(SETTLE);
    pairs_before();
    arm(arguments[1], 1, 0);
    pairs_traced();
    arm(arguments[1], 0, 0);
    pairs(SETTLE); /* spans that held traced objects are told apart from others for a while */
    arm(arguments[1], 1, RARELY);
    pairs_sampled();
    arm(arguments[1], 0, 0);
    pairs(SETTLE);
    pairs_after();
    return 0;
}
