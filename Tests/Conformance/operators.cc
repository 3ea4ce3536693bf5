// operators.cc: cases about C++ operators new and delete ([new.delete] of the C++17 standard), which
// libstdc++ builds on malloc and free or a preloaded heap defines itself.
// SPDX-License-Identifier: MIT
#include "conformance.h"

#include <malloc.h>

#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#include <sys/resource.h>

// Wrong sizes and huge requests are the point here. clang has no name for gcc's warning.
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Walloc-size-larger-than="
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace
{

constexpr size_t huge = static_cast<size_t>(PTRDIFF_MAX) - 4096;

void *use(void *p, size_t size, size_t alignment)
{
    REQUIRE(p && is_aligned(p, alignment) && malloc_usable_size(p) >= size);
    memset(p, 0xEE, malloc_usable_size(p));
    return hide(p);
}

} // namespace

CASE(operators_new_and_delete, "new, new[], their nothrow forms; delete plain and sized; "
                               "[new.delete.single], [new.delete.array]")
{
    for (size_t n = 0; n < 40 << 20; n = n < 300 ? n + 1 : n * 5 / 2) {
        for (int round = 0; round < (n < 300 ? 4 : 1); round++) {
            ::operator delete(use(::operator new(n), n, 16));
            ::operator delete(use(::operator new(n), n, 16), n);
            ::operator delete(use(::operator new(n, std::nothrow), n, 16), std::nothrow);
            ::operator delete[](use(::operator new[](n), n, 16));
            ::operator delete[](use(::operator new[](n), n, 16), n);
            ::operator delete[](use(::operator new[](n, std::nothrow), n, 16), std::nothrow);
        }
    }
}

CASE(operators_aligned,
     "all aligned forms, aligned and sized delete; [new.delete.single] (align_val_t)")
{
    for (size_t a = 1; a <= 2 << 20; a *= 2) {
        const std::align_val_t alignment{a};
        for (size_t n = 0; n < 4 << 20; n = n * 3 + 1) {
            ::operator delete(use(::operator new(n, alignment), n, a), alignment);
            ::operator delete(use(::operator new(n, alignment), n, a), n, alignment);
            ::operator delete(use(::operator new(n, alignment, std::nothrow), n, a), alignment,
                              std::nothrow);
            ::operator delete[](use(::operator new[](n, alignment), n, a), alignment);
            ::operator delete[](use(::operator new[](n, alignment), n, a), n, alignment);
            ::operator delete[](use(::operator new[](n, alignment, std::nothrow), n, a), alignment,
                                std::nothrow);
        }
    }
}

CASE(operators_delete_null, "every form of delete takes a null pointer; [new.delete.single]/17")
{
    const std::align_val_t alignment{64};
    ::operator delete(nullptr);
    ::operator delete[](nullptr);
    ::operator delete(nullptr, 10);
    ::operator delete[](nullptr, 10);
    ::operator delete(nullptr, std::nothrow);
    ::operator delete[](nullptr, std::nothrow);
    ::operator delete(nullptr, alignment);
    ::operator delete[](nullptr, alignment);
    ::operator delete(nullptr, 10, alignment);
    ::operator delete[](nullptr, 10, alignment);
    ::operator delete(nullptr, alignment, std::nothrow);
    ::operator delete[](nullptr, alignment, std::nothrow);
}

CASE(operators_new_zero_is_unique,
     "new of size 0 gives distinct non-null pointers; [basic.stc.dynamic]")
{
    void *p[100];
    for (int i = 0; i < 100; i++) {
        p[i] = i % 2 ? ::operator new(0) : ::operator new[](0, std::nothrow);
        REQUIRE(p[i] && std::find(p, p + i, p[i]) == p + i);
    }
    for (void *q : p)
        ::operator delete(q);
}

CASE(operators_new_throws_bad_alloc,
     "without a handler new throws bad_alloc; [new.delete.single]/4")
{
    /* Not SIZE_MAX: libstdc++ 12 rounds up to the alignment without looking for overflow. */
    for (size_t n : {huge, static_cast<size_t>(PTRDIFF_MAX) + 1, SIZE_MAX - 8191}) {
        n = hide_size(n);
        int caught = 0;
        try {
            ::operator delete(hide(::operator new(n)));
        } catch (const std::bad_alloc &) {
            caught++;
        }
        try {
            ::operator delete[](hide(::operator new[](n)));
        } catch (const std::bad_alloc &) {
            caught++;
        }
        try {
            ::operator delete (hide(::operator new (n, std::align_val_t{64})),
                               std::align_val_t{64});
        } catch (const std::bad_alloc &) {
            caught++;
        }
        try {
            ::operator delete[](hide(::operator new[](n, std::align_val_t{4096})),
                                std::align_val_t{4096});
        } catch (const std::bad_alloc &) {
            caught++;
        }
        REQUIRE(caught == 4);
    }
}

CASE(operators_nothrow_return_null, "nothrow forms return a null pointer; [new.delete.single]/7")
{
    for (size_t n : {huge, static_cast<size_t>(PTRDIFF_MAX) + 1, SIZE_MAX - 8191}) {
        n = hide_size(n);
        REQUIRE(::operator new(n, std::nothrow) == nullptr);
        REQUIRE(::operator new[](n, std::nothrow) == nullptr);
        REQUIRE(::operator new (n, std::align_val_t{64}, std::nothrow) == nullptr);
        REQUIRE(::operator new[](n, std::align_val_t{4096}, std::nothrow) == nullptr);
    }
    REQUIRE(new (std::nothrow) char[hide_size(huge)] == nullptr);
}

CASE(operators_new_array_too_long,
     "a new-expression whose size overflows throws bad_alloc or its child "
     "bad_array_new_length; [expr.new]/9")
{
    struct Large {
        char bytes[1000];
    };
    bool caught = false;
    try {
        delete[] new Large[hide_size(SIZE_MAX / 999)];
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    REQUIRE(caught);
}

namespace
{

int handler_calls;
std::vector<void *> *reserve;

void throw_after_three()
{
    if (++handler_calls == 3) throw std::bad_alloc();
}

void remove_after_five()
{
    if (++handler_calls == 5) std::set_new_handler(nullptr);
}

template <typename Allocate> void require_handler_called(Allocate allocate)
{
    handler_calls = 0;
    std::set_new_handler(throw_after_three);
    bool caught = false;
    try {
        caught = allocate(hide_size(huge)) == nullptr;
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    REQUIRE(caught && handler_calls == 3);
    handler_calls = 0;
    std::set_new_handler(remove_after_five);
    caught = false;
    try {
        caught = allocate(hide_size(huge)) == nullptr;
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    REQUIRE(caught && handler_calls == 5 && std::get_new_handler() == nullptr);
}

} // namespace

CASE(new_handler_is_called_until_it_gives_up,
     "new calls the handler in a loop until it succeeds, the "
     "handler throws or is removed; [new.delete.single]/4")
{
    require_handler_called([](size_t n) { return ::operator new(n); });
    require_handler_called([](size_t n) { return ::operator new[](n); });
    require_handler_called([](size_t n) { return ::operator new (n, std::align_val_t{64}); });
    require_handler_called([](size_t n) { return ::operator new[](n, std::align_val_t{128}); });
}

CASE(new_handler_is_called_by_nothrow_forms, "the nothrow forms call the handler too, and turn its "
                                             "exception into null; [new.delete.single]/7")
{
    require_handler_called([](size_t n) { return ::operator new(n, std::nothrow); });
    require_handler_called([](size_t n) { return ::operator new[](n, std::nothrow); });
    require_handler_called(
        [](size_t n) { return ::operator new (n, std::align_val_t{64}, std::nothrow); });
    require_handler_called(
        [](size_t n) { return ::operator new[](n, std::align_val_t{64}, std::nothrow); });
}

CASE(new_handler_may_free_memory, "what the handler frees serves the request; [new.handler]/2")
{
    struct rlimit limit = {address_space_bytes() + (200u << 20), RLIM_INFINITY};
    reserve = new std::vector<void *>;
    reserve->push_back(::operator new(100u << 20));
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    std::set_new_handler([] {
        handler_calls++;
        if (reserve->empty()) throw std::bad_alloc();
        ::operator delete(reserve->back());
        reserve->pop_back();
    });
    handler_calls = 0;
    void *p = ::operator new(150u << 20);
    REQUIRE(p && handler_calls == 1);
    ::operator delete(p);
    delete reserve;
}

CASE(new_handler_may_throw_its_own,
     "a handler may throw a class derived from bad_alloc; [new.handler]")
{
    struct Exhausted : std::bad_alloc {
    };
    bool caught = false;
    std::set_new_handler([] { throw Exhausted(); });
    try {
        ::operator delete(hide(::operator new(hide_size(huge))));
    } catch (const Exhausted &) {
        caught = true;
    }
    REQUIRE(caught);
    REQUIRE(::operator new(hide_size(huge), std::nothrow) == nullptr);
}

CASE(malloc_calls_no_new_handler, "malloc, calloc, realloc and memalign do not call it; C17 7.22.3")
{
    handler_calls = 0;
    std::set_new_handler([] { handler_calls++; });
    REQUIRE(!malloc(hide_size(huge)) && !calloc(1, hide_size(huge)) && errno == ENOMEM);
    REQUIRE(!realloc(nullptr, hide_size(huge)) && !memalign(64, hide_size(huge)));
    REQUIRE(handler_calls == 0);
}

CASE(operators_mix_with_malloc,
     "libstdc++ on glibc: operator new's blocks are malloc's; programs rely")
{
    for (size_t n = 1; n < 1 << 21; n *= 3) {
        free(::operator new(n));
        free(::operator new[](n));
        free(::operator new (n, std::align_val_t{64}));
        ::operator delete(hide(malloc(n)));
        ::operator delete[](hide(memalign(128, n)));
        void *p = realloc(::operator new(n), 2 * n);
        REQUIRE(p);
        ::operator delete(p);
    }
}

CASE(operators_delete_of_a_wrong_size,
     "sized delete with a wrong size works as on glibc, where the size "
     "is ignored")
{
    for (size_t n = 1; n < 1 << 21; n *= 3) {
        ::operator delete(hide(::operator new(n)), n / 2);
        ::operator delete(hide(::operator new(n)), n * 100);
        ::operator delete[](hide(::operator new[](n)), hide_size(0));
        ::operator delete (hide(::operator new (n, std::align_val_t{64})), n + 7,
                           std::align_val_t{64});
        ::operator delete(hide(::operator new(n)));
    }
    ::operator delete(hide(::operator new(10)), hide_size(SIZE_MAX));
}

CASE(operators_keep_errno_on_success, "new and delete leave errno alone when they succeed")
{
    errno = 321;
    for (size_t n = 1; n < 64 << 20; n *= 2) {
        void *p = ::operator new(n), *q = ::operator new (n, std::align_val_t{4096});
        REQUIRE(p && q && errno == 321);
        ::operator delete(p, n);
        ::operator delete (q, std::align_val_t{4096});
        REQUIRE(errno == 321);
    }
}

CASE(over_aligned_types, "new of over-aligned types, in containers too; [expr.new]/14")
{
    struct alignas(256) Wide {
        char bytes[300];
    };
    struct alignas(8192) Wider {
        char bytes[1];
    };
    for (int i = 0; i < 100; i++) {
        auto wide = std::make_unique<Wide>();
        auto wider = std::make_unique<Wider[]>(3);
        std::vector<Wide> many(static_cast<size_t>(i));
        REQUIRE(is_aligned(wide.get(), 256) && is_aligned(wider.get(), 8192));
        REQUIRE(many.empty() || is_aligned(many.data(), 256));
    }
}

CASE(temporary_buffers, "std::get_temporary_buffer, stable_sort, inplace_merge; [temporary.buffer]")
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    auto some = std::get_temporary_buffer<int>(1000);
    REQUIRE(some.first && some.second >= 1 && some.second <= 1000);
    std::return_temporary_buffer(some.first);
    /* Asks for less and less until it is given something. */
    auto most = std::get_temporary_buffer<char>(PTRDIFF_MAX / 2);
    REQUIRE(!most.first || most.second > 0);
    std::return_temporary_buffer(most.first);
#pragma GCC diagnostic pop
    std::vector<int> numbers(100000);
    uint64_t state = 1;
    for (int &n : numbers)
        n = static_cast<int>(random_next(&state));
    std::stable_sort(numbers.begin(), numbers.end());
    REQUIRE(std::is_sorted(numbers.begin(), numbers.end()));
}

CASE(programs_replace_operators,
     "a program's own operators new and delete are used, by libstdc++ too; "
     "[replacement.functions]")
{
    require_helper("helper_own_new", nullptr, nullptr, 0);
}
