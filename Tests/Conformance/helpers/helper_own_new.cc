// helper_own_new: replaces some forms of operators new and delete, the others must fall back on
// them as [replacement.functions] and [new.delete] say. Ends with 0 if all went through them.
// SPDX-License-Identifier: MIT
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

static long news, deletes;

// In front of each block, so that a block of another maker is noticed.
static const unsigned long mark = 0x6f776e206e6577;

void *operator new(std::size_t size)
{
    auto *p = static_cast<unsigned long *>(std::malloc(size + 16));
    if (!p) throw std::bad_alloc();
    p[0] = mark;
    news++;
    return p + 2;
}

void operator delete(void *p) noexcept
{
    if (!p) return;
    // The compiler sees a new-expression's array and thinks the mark lies outside of it.
    asm("" : "+r"(p));
    auto *start = static_cast<unsigned long *>(p) - 2;
    if (start[0] != mark) std::_Exit(10);
    start[0] = 0;
    deletes++;
    std::free(start);
}

// The sized form too: compilers call it, and the library's would not know of the mark.
void operator delete(void *p, std::size_t) noexcept
{
    operator delete(p);
}

static void *volatile sink;

int main()
{
    long before = news;
    sink = new int[10];
    delete[] static_cast<int *>(sink);
    sink = ::operator new(10, std::nothrow);
    ::operator delete(sink, std::nothrow);
    sink = ::operator new[](10, std::nothrow);
    ::operator delete[](sink, std::nothrow);
    sink = new long;
    delete static_cast<long *>(sink);
    if (news - before != 4) return 1;
    {
        // libstdc++.so's own code allocates here.
        std::string text(1000, 'x');
        text.append(5000, 'y');
        std::vector<std::string> texts(100, text);
    }
    return news == deletes ? 0 : 2;
}
