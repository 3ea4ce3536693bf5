/* SPDX-License-Identifier: MIT */
/* Frames of every shape gcc makes: with and without frame pointer, alloca, VLAs, realigned stacks,
 * large frames, deep recursion, callbacks out of libc, longjmp, calls that never return. */
#include <alloca.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static volatile unsigned sink;
static jmp_buf out;

static __attribute__((noinline)) void allocate(unsigned i)
{
    char *memory = malloc(i % 300 + 1);
    memory[0] = (char)i;
    sink += (unsigned char)memory[0];
    free(memory);
}

static __attribute__((noinline, optimize("omit-frame-pointer"))) void plain(unsigned i)
{
    char text[64];
    for (unsigned k = 0; k < sizeof text; k++)
        text[k] = (char)(i + k);
    sink += (unsigned char)text[i % 64];
    allocate(i);
}

static __attribute__((noinline, optimize("no-omit-frame-pointer"))) void framed(unsigned i)
{
    plain(i);
    sink++;
}

static __attribute__((noinline)) void with_alloca(unsigned i)
{
    char *text = alloca(i % 3000 + 1);
    memset(text, (int)i, i % 3000 + 1);
    framed(i);
    sink += (unsigned char)text[0];
}

static __attribute__((noinline)) void with_vla(unsigned i)
{
    int numbers[i % 100 + 1];
    for (unsigned k = 0; k <= i % 100; k++)
        numbers[k] = (int)k;
    with_alloca(i);
    sink += (unsigned)numbers[i % 100];
}

/* Needs its locals at multiples of 64: the stack is realigned, the CFA kept in memory. */
static __attribute__((noinline)) void realigned(unsigned i)
{
    _Alignas(64) volatile char lanes[192];
    char *text = alloca(i % 200 + 1);
    for (unsigned k = 0; k < sizeof lanes; k++)
        lanes[k] = (char)k;
    text[0] = (char)i;
    with_vla(i);
    sink += (unsigned char)lanes[i % 192] + (unsigned char)text[0];
}

static __attribute__((noinline)) void realigned_many(int a, int b, int c, int d, int e, int f,
                                                     int g, unsigned i)
{
    _Alignas(128) volatile int lanes[32];
    for (int k = 0; k < 32; k++)
        lanes[k] = a + b + c + d + e + f + g + k;
    realigned(i);
    sink += (unsigned)lanes[i % 32];
}

static __attribute__((noinline)) void huge_frame(unsigned i)
{
    volatile char room[200000];
    room[i % sizeof room] = 1;
    realigned_many(1, 2, 3, 4, 5, 6, 7, i);
    sink += (unsigned char)room[i % sizeof room];
}

static __attribute__((noinline)) unsigned deep(unsigned depth, unsigned i)
{
    if (depth == 0) {
        plain(i);
        return i;
    }
    return deep(depth - 1, i) + deep(depth % 7 ? 0 : depth / 3, i + 1) + 1;
}

static __attribute__((noinline, noreturn)) void leave(unsigned i)
{
    allocate(i);
    longjmp(out, 1);
}

static __attribute__((noinline)) void jumper(unsigned i)
{
    if (setjmp(out) == 0) leave(i); /* the call is the last instruction of its block */
}

static int compare(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    if ((x & 15) == 0) framed((unsigned)x);
    return (x > y) - (x < y);
}

static __attribute__((noinline)) void sorted(unsigned i)
{
    int numbers[200];
    for (int k = 0; k < 200; k++)
        numbers[k] = (int)(i * 2654435761u >> (k % 20)) ^ k;
    qsort(numbers, 200, sizeof *numbers, compare);
    int key = numbers[i % 200];
    sink += bsearch(&key, numbers, 200, sizeof *numbers, compare) != NULL;
}

static void strings(unsigned i)
{
    static char a[20000], b[20000];
    memset(a, 'x', sizeof a);
    memcpy(b, a, sizeof a - i % 100);
    b[sizeof b - 1 - i % 1000] = '\0';
    sink += (unsigned)strlen(b) + (unsigned)(strchr(b, 'y') != NULL) + (unsigned)strcmp(a, b);
    memmove(a + 1, a, 1000);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 2;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double end = (double)now.tv_sec + now.tv_nsec * 1e-9 + seconds;
    for (unsigned i = 0;; i++) {
        huge_frame(i);
        realigned(i);
        sink += deep(10 + i % 60, i);
        if (i % 16 == 0) sink += deep(i % 300, i);
        jumper(i);
        sorted(i);
        strings(i);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if ((double)now.tv_sec + now.tv_nsec * 1e-9 > end) return 0;
    }
}
