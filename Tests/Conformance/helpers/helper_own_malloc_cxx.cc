// helper_own_malloc_cxx: a C++ program with an allocator linked in (as those that link jemalloc or
// tcmalloc statically): it defines the malloc family, not the operators, and frees by free() what
// operator new made and the other way round. With libstdc++'s operators that is one heap; it must
// stay so when a library preloads operators of its own.
// SPDX-License-Identifier: MIT
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace
{

constexpr std::size_t pool_size = 64 << 20;
alignas(4096) char pool[pool_size];
std::size_t used;

// The word before each block is its size. Nothing is used again.
void *take(std::size_t alignment, std::size_t size)
{
    if (size > pool_size) return nullptr;
    std::size_t at = (used + 16 + alignment - 1) & ~(alignment - 1);
    if (at + size > pool_size) return nullptr;
    used = at + size;
    std::memcpy(pool + at - sizeof size, &size, sizeof size);
    return pool + at;
}

std::size_t size_of(void *p)
{
    std::size_t size;
    char *start = static_cast<char *>(p);
    if (start < pool || start >= pool + pool_size) std::_Exit(20);
    std::memcpy(&size, start - sizeof size, sizeof size);
    return size;
}

} // namespace

extern "C" {

void *malloc(std::size_t size)
{
    return take(16, size);
}

void free(void *p)
{
    if (p) (void)size_of(p);
}

void *calloc(std::size_t count, std::size_t size)
{
    return take(16, count * size);
}

void *realloc(void *p, std::size_t size)
{
    void *moved = take(16, size);
    if (p && moved) std::memcpy(moved, p, size_of(p) < size ? size_of(p) : size);
    return moved;
}

void *memalign(std::size_t alignment, std::size_t size)
{
    return take(alignment, size);
}

void *aligned_alloc(std::size_t alignment, std::size_t size)
{
    return take(alignment, size);
}

int posix_memalign(void **out, std::size_t alignment, std::size_t size)
{
    *out = take(alignment, size);
    return *out ? 0 : ENOMEM;
}

std::size_t malloc_usable_size(void *p)
{
    return p ? size_of(p) : 0;
}

} // extern "C"

static void *volatile sink;

int main()
{
    for (std::size_t n = 1; n < 100000; n = n * 3 + 1) {
        sink = ::operator new(n);
        (void)size_of(sink);
        free(sink);
        sink = ::operator new[](n, std::nothrow);
        (void)size_of(sink);
        free(sink);
        sink = ::operator new (n, std::align_val_t{128});
        (void)size_of(sink);
        free(sink);
        sink = malloc(n);
        ::operator delete(sink);
        sink = malloc(n);
        ::operator delete[](sink, n);
        sink = malloc(n);
        ::operator delete (sink, std::align_val_t{64});
    }
    // libstdc++.so allocates in its own code.
    std::string text(1000, 'x');
    text.append(5000, 'y');
    std::vector<std::string> texts(100, text);
    (void)size_of(text.data());
    (void)size_of(texts.back().data());
    return 0;
}
