// SPDX-License-Identifier: MIT
// A new that can't be met calls the new handler until it can, or until the handler gives up;
// nothrow gives null then, and the others throw std::bad_alloc.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <new>

static const size_t impossible = SIZE_MAX / 4;
static unsigned called;

static void give_up()
{
    if (++called == 3) std::set_new_handler(nullptr);
}

static bool throws(void *(*allocate)())
{
    called = 0;
    std::set_new_handler(give_up);
    try {
        allocate();
    } catch (const std::bad_alloc &) {
        return called == 3;
    }
    return false;
}

int main()
{
    static const std::align_val_t align{64};
    if (!throws([] { return ::operator new(impossible); })) return 1;
    if (!throws([] { return ::operator new[](impossible); })) return 2;
    if (!throws([] { return ::operator new(impossible, align); })) return 3;
    called = 0;
    std::set_new_handler(give_up);
    if (::operator new(impossible, std::nothrow) || called != 3) return 4;
    std::set_new_handler(give_up);
    called = 0;
    if (::operator new[](impossible, align, std::nothrow) || called != 3) return 5;
    return 0;
}
