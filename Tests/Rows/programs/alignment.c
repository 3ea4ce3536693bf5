/* SPDX-License-Identifier: MIT */
/* alignment FOLDER: objects of many sizes, every other thousand of them traced: 16-byte aligned, as
 * large as asked for and as malloc_usable_size(3) says, and with their contents until freed. */
#include <fcntl.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OBJECTS = 4000, ROUNDS = 20 };

static int region;

static void arm(char value)
{
    if (pwrite(region, &value, 1, 0) != 1) _exit(10);
}

static struct {
    unsigned char *object;
    size_t size;
} held[OBJECTS];

static unsigned char byte_of(size_t index)
{
    return (unsigned char)(index * 7 + 1);
}

static size_t random_size(void)
{
    unsigned wide = (unsigned)random() % 18;
    return (size_t)random() & ((1u << wide) - 1);
}

static void check(size_t index)
{
    unsigned char *object = held[index].object;
    size_t size = held[index].size, usable = malloc_usable_size(object);
    if (!object || (uintptr_t)object % 16 || usable < size) _exit(11);
    for (size_t i = 0; i < size; i += 61) {
        if (object[i] != byte_of(index)) _exit(12);
    }
}

static void make(size_t index)
{
    size_t size = random_size();
    unsigned char *object = malloc(size);
    held[index].object = object;
    held[index].size = size;
    if (!object) _exit(13);
    memset(object, byte_of(index), malloc_usable_size(object));
}

static void resize(size_t index)
{
    size_t size = random_size() + 1;
    unsigned char *object = realloc(held[index].object, size);
    size_t kept = size < held[index].size ? size : held[index].size;
    for (size_t i = 0; i < kept; i++) {
        if (object[i] != byte_of(index)) _exit(14);
    }
    held[index].object = object;
    held[index].size = size;
    memset(object, byte_of(index), size);
}

int main(int count, char **arguments)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%d", count > 1 ? arguments[1] : "", (int)getpid());
    region = open(path, O_RDWR | O_CLOEXEC);
    for (unsigned round = 0; round < ROUNDS; round++) {
        arm(round % 2);
        for (size_t i = 0; i < OBJECTS; i++) {
            if (!held[i].object) {
                make(i);
            } else {
                check(i);
                if (random() % 3) {
                    resize(i);
                } else {
                    free(held[i].object);
                    held[i].object = 0;
                }
            }
        }
    }
    return 0;
}
