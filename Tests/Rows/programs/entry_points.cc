// SPDX-License-Identifier: MIT
// Allocates through every way there is, each from a function named after it, and keeps it all; then
// says so and waits. What its constructors and the loader allocated before main, it frees.
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#define SITE extern "C" __attribute__((noinline)) void
enum { COUNT = 7, SIZE = 200, ALIGN = 64 };

static void *volatile kept[1024];
static unsigned kept_count;

static void keep(void *object)
{
    if (!object) _exit(3);
    kept[kept_count++] = object;
}

#define EACH for (unsigned i = 0; i < COUNT; i++)

SITE from_malloc()
{
    EACH keep(malloc(SIZE));
}
SITE from_calloc()
{
    EACH keep(calloc(4, SIZE / 4));
}
SITE from_realloc()
{
    EACH keep(realloc(malloc(10), SIZE));
}
SITE from_realloc_null()
{
    EACH keep(realloc(nullptr, SIZE));
}
SITE from_reallocarray()
{
    EACH keep(reallocarray(nullptr, 4, SIZE / 4));
}
SITE from_aligned_alloc()
{
    EACH keep(aligned_alloc(ALIGN, SIZE));
}
SITE from_memalign()
{
    EACH keep(memalign(ALIGN, SIZE));
}
SITE from_valloc()
{
    EACH keep(valloc(SIZE));
}
SITE from_pvalloc()
{
    EACH keep(pvalloc(SIZE));
}

SITE from_posix_memalign()
{
    EACH
    {
        void *object;
        keep(posix_memalign(&object, ALIGN, SIZE) ? nullptr : object);
    }
}

static const std::align_val_t align{ALIGN};
SITE from_new()
{
    EACH keep(::operator new(SIZE));
}
SITE from_new_array()
{
    EACH keep(::operator new[](SIZE));
}
SITE from_new_nothrow()
{
    EACH keep(::operator new(SIZE, std::nothrow));
}
SITE from_new_array_nothrow()
{
    EACH keep(::operator new[](SIZE, std::nothrow));
}
SITE from_new_aligned()
{
    EACH keep(::operator new(SIZE, align));
}
SITE from_new_array_aligned()
{
    EACH keep(::operator new[](SIZE, align));
}
SITE from_new_aligned_nothrow()
{
    EACH keep(::operator new(SIZE, align, std::nothrow));
}
SITE from_new_array_aligned_nothrow()
{
    EACH keep(::operator new[](SIZE, align, std::nothrow));
}

struct thing {
    char bytes[SIZE];
};
SITE from_new_expression()
{
    EACH keep(new thing);
}

SITE from_strdup()
{
    static char text[SIZE];
    memset(text, 'x', SIZE - 1);
    EACH keep(strdup(text));
}

SITE from_strndup()
{
    EACH keep(strndup("many words, of which some", 9));
}

SITE from_asprintf()
{
    EACH
    {
        char *text;
        keep(asprintf(&text, "%0199d", i) == SIZE - 1 ? text : nullptr);
    }
}

SITE from_getline(FILE *file)
{
    EACH
    {
        rewind(file);
        char *line = nullptr;
        size_t size = 0;
        keep(getline(&line, &size, file) > 0 ? line : nullptr);
    }
}

SITE from_fopen()
{
    EACH keep(fopen("/dev/null", "r"));
}
SITE from_dlopen(const char *path)
{
    keep(dlopen(path, RTLD_NOW));
}

static int ended[2];

static void *wait_in_thread(void *)
{
    char byte;
    return read(ended[0], &byte, 1) < 0 ? ended : nullptr;
}

SITE from_pthread_create()
{
    EACH
    {
        pthread_t thread;
        if (pthread_create(&thread, nullptr, wait_in_thread, nullptr)) _exit(3);
    }
}

// Freed by main: made before it.
static void *before_main;
extern "C" __attribute__((noinline, constructor)) void from_constructor()
{
    before_main = malloc(3000);
    keep(malloc(333));
}

int main(int count, char **arguments)
{
    if (count != 3 || pipe(ended)) return 64;
    free(before_main);
    FILE *file = fopen(arguments[1], "r");
    if (!file) return 65;
    from_malloc();
    from_calloc();
    from_realloc();
    from_realloc_null();
    from_reallocarray();
    from_aligned_alloc();
    from_memalign();
    from_valloc();
    from_pvalloc();
    from_posix_memalign();
    from_new();
    from_new_array();
    from_new_nothrow();
    from_new_array_nothrow();
    from_new_aligned();
    from_new_array_aligned();
    from_new_aligned_nothrow();
    from_new_array_aligned_nothrow();
    from_new_expression();
    from_strdup();
    from_strndup();
    from_asprintf();
    from_getline(file);
    from_fopen();
    from_dlopen(arguments[2]);
    from_pthread_create();
    char byte = '\n';
    return write(1, "full\n", 5) == 5 && read(0, &byte, 1) >= 0 ? 0 : 1;
}
