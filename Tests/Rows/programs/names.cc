// SPDX-License-Identifier: MIT
// C++ frames: a template in a namespace, a lambda, and functions that are inlined into each other.
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

static void *volatile kept[64];
static unsigned kept_count;

namespace shop
{
template <typename Item> struct Shelf {
    __attribute__((noinline)) void add(Item item)
    {
        kept[kept_count++] = malloc(sizeof(item) + 1000);
    }
};

__attribute__((always_inline)) static inline void innermost(size_t size)
{
    kept[kept_count++] = malloc(size); // line of innermost
}

__attribute__((always_inline)) static inline void middle(size_t size)
{
    innermost(size + 1); // line of middle
}

__attribute__((noinline)) void outer(size_t size)
{
    middle(size); // line of outer
    asm volatile("");
}
} // namespace shop

__attribute__((noinline)) static void recurse(unsigned depth)
{
    if (depth)
        recurse(depth - 1);
    else
        kept[kept_count++] = malloc(4321);
    asm volatile("");
}

int main()
{
    shop::Shelf<std::map<std::string, long>> shelf;
    shelf.add({});
    shop::outer(2000);
    auto closure = [](size_t size) __attribute__((noinline))
    {
        kept[kept_count++] = malloc(size);
    };
    closure(5000);
    recurse(40);
    char byte;
    return write(1, "full\n", 5) == 5 && read(0, &byte, 1) >= 0 ? 0 : 1;
}
