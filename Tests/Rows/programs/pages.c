/* SPDX-License-Identifier: MIT */
/* Pages of all kinds, in the heap and beside it; then waits until its input ends.
 *
 *     pages zero COUNT       of a huge slot that many pages are read, none is written
 *     pages swap COUNT       that many are written, and given to swap
 *     pages hugetlb COUNT    a mapping of that many huge pages, written
 *     pages huge MEBIBYTES   a huge slot in transparent huge pages, written
 *     pages sparse GIBIBYTES huge slots of a gibibyte; of each mebibyte a page is written */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096 };

static volatile char *huge_slot(size_t size)
{
    volatile char *slot = malloc(size);
    if (!slot) _exit(3);
    return slot;
}

static void read_zeros(size_t count)
{
    volatile char *slot = huge_slot(64 << 20);
    madvise((void *)slot, 64 << 20, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < count; i++)
        if (slot[i * PAGE]) _exit(3);
}

/* A page that was just touched may not go at the first try. */
static void swap_out(size_t count)
{
    volatile char *slot = huge_slot(64 << 20);
    madvise((void *)slot, 64 << 20, MADV_NOHUGEPAGE);
    memset((void *)slot, 'x', count * PAGE);
    for (int i = 0; i < 3; i++)
        madvise((void *)slot, count * PAGE, MADV_PAGEOUT);
}

static int map_hugetlb(size_t count)
{
    size_t size = count * (2 << 20);
    void *start =
        mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    if (start == MAP_FAILED) return 1;
    memset(start, 1, size);
    return 0;
}

static void fill_huge(size_t mebibytes)
{
    volatile char *slot = huge_slot(mebibytes << 20);
    madvise((void *)slot, mebibytes << 20, MADV_HUGEPAGE);
    memset((void *)slot, 1, mebibytes << 20);
}

static void touch_sparsely(size_t gibibytes)
{
    for (size_t i = 0; i < gibibytes; i++) {
        volatile char *slot = huge_slot(1 << 30);
        for (size_t j = 0; j < 1 << 30; j += 1 << 20)
            slot[j] = 1;
    }
}

int main(int argc, char **argv)
{
    char byte;
    size_t count = argc > 2 ? strtoul(argv[2], 0, 10) : 0;
    if (argc < 3) return 1;
    if (!strcmp(argv[1], "zero")) read_zeros(count);
    if (!strcmp(argv[1], "swap")) swap_out(count);
    if (!strcmp(argv[1], "hugetlb") && map_hugetlb(count)) return 2;
    if (!strcmp(argv[1], "huge")) fill_huge(count);
    if (!strcmp(argv[1], "sparse")) touch_sparsely(count);
    if (write(1, "ready\n", 6) != 6) return 1;
    while (read(0, &byte, 1) > 0)
        ;
    return 0;
}
