// exceptions.cc: cases about C++ at the edge: exceptions when memory is exhausted, standard
// containers, threads and thread_local objects.
// SPDX-License-Identifier: MIT
#include "conformance.h"

#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <atomic>
#include <exception>
#include <functional>
#include <future>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <random>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace
{

struct Link {
    Link *next;
};

void limit_address_space(size_t beyond)
{
    struct rlimit limit = {address_space_bytes() + beyond, RLIM_INFINITY};
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
}

/* Takes every byte there is, down to the smallest block. */
Link *exhaust()
{
    Link *list = nullptr;
    for (size_t size = 1 << 20; size >= sizeof(Link); size /= 4) {
        while (void *p = malloc(size)) {
            list = new (p) Link{list};
        }
    }
    return list;
}

void release(Link *list)
{
    while (list) {
        Link *next = list->next;
        free(list);
        list = next;
    }
}

struct Big {
    char bytes[3000];
};

int throw_many(int depth)
{
    if (depth == 0) throw std::bad_alloc();
    try {
        return throw_many(depth - 1);
    } catch (const std::bad_alloc &) {
        throw;
    }
}

} // namespace

CASE(exceptions_when_exhausted,
     "throwing needs memory: the emergency pool serves when malloc does not; "
     "libstdc++ manual, Itanium C++ ABI 2.4.2")
{
    try {
        throw std::runtime_error("the first throw binds symbols");
    } catch (const std::exception &) {
    }
    limit_address_space(64u << 20);
    Link *list = exhaust();
    int caught = 0;
    for (int i = 0; i < 100; i++) {
        try {
            throw_many(10);
        } catch (const std::bad_alloc &) {
            caught++;
        }
        try {
            throw Big();
        } catch (const Big &) {
            caught++;
        }
    }
    release(list);
    REQUIRE(caught == 200);
}

CASE(bad_alloc_is_recoverable,
     "containers throw bad_alloc when exhausted and work again; [vector.capacity]")
{
    limit_address_space(64u << 20);
    for (int round = 0; round < 3; round++) {
        std::list<std::string> texts;
        bool caught = false;
        try {
            for (;;)
                texts.emplace_back(100, 'x');
        } catch (const std::bad_alloc &) {
            caught = true;
        }
        REQUIRE(caught && texts.size() > 100000);
    }
    std::vector<char> large(40u << 20, 'y');
    REQUIRE(large.back() == 'y');
}

CASE(vectors_report_bad_lengths,
     "vector and string beyond memory throw and stay whole; [vector.cons]")
{
    std::vector<char> small(10, 'a');
    int caught = 0;
    try {
        small.reserve(hide_size(small.max_size()));
    } catch (const std::bad_alloc &) {
        caught++;
    }
    try {
        small.resize(hide_size(SIZE_MAX));
    } catch (const std::length_error &) {
        caught++;
    }
    REQUIRE(caught == 2 && small == std::vector<char>(10, 'a'));
}

CASE(containers_work, "map, unordered_map, string, regex, streams, functions, shared_ptr")
{
    std::map<std::string, std::shared_ptr<std::string>> ordered;
    std::unordered_map<int, std::function<int(int)>> functions;
    for (int i = 0; i < 20000; i++) {
        std::ostringstream name;
        name << "entry " << i;
        ordered[name.str()] = std::make_shared<std::string>(static_cast<size_t>(i % 300), 'z');
        std::string copy = name.str();
        functions[i] = [i, copy](int x) { return x + i + static_cast<int>(copy.size()); };
    }
    REQUIRE(ordered.at("entry 77")->size() == 77 && functions.at(5)(1) == 13);
    REQUIRE(std::regex_search("a heap of memory", std::regex("h(e|o)+ap( of [a-z]+)?")));
}

CASE(memory_resources_work, "pool and monotonic resources over new and delete; [mem.res]")
{
    std::pmr::synchronized_pool_resource pool;
    std::pmr::monotonic_buffer_resource monotonic(&pool);
    std::pmr::vector<std::pmr::string> texts(&monotonic);
    for (int i = 0; i < 5000; i++)
        texts.emplace_back(static_cast<size_t>(i % 500), 'p');
    REQUIRE(texts.size() == 5000);
}

CASE(futures_and_threads_work, "async, packaged tasks, exceptions that cross threads; [futures]")
{
    for (int round = 0; round < 30; round++) {
        std::vector<std::future<std::string>> results;
        for (int i = 0; i < 8; i++)
            results.push_back(std::async(std::launch::async, [i] {
                if (i == 7) throw std::runtime_error(std::string(500, 'e'));
                return std::string(static_cast<size_t>(i) * 1000, 'r');
            }));
        for (size_t i = 0; i < 7; i++)
            REQUIRE(results[i].get().size() == i * 1000);
        bool caught = false;
        try {
            results[7].get();
        } catch (const std::runtime_error &error) {
            caught = strlen(error.what()) == 500;
        }
        REQUIRE(caught);
    }
}

namespace
{

std::atomic<int> destructed;

struct PerThread {
    std::vector<std::string> texts = std::vector<std::string>(20, std::string(200, 't'));
    ~PerThread()
    {
        /* Allocation, and first use of another thread_local, while the thread is torn down. */
        static thread_local std::string other(300, 'o');
        texts.push_back(other + "more");
        destructed++;
    }
};
thread_local PerThread per_thread;

} // namespace

CASE(thread_local_destructors_allocate, "thread_local objects are destructed with a working heap; "
                                        "[basic.stc.thread]")
{
    size_t before = 0;
    for (int i = 0; i < 1000; i++) {
        std::thread([] { per_thread.texts[0] += 'x'; }).join();
        if (i == 100) before = resident_bytes();
    }
    REQUIRE(destructed == 1000 && resident_bytes() < before + (4u << 20));
}

CASE(exceptions_from_many_threads, "threads that throw, catch and rethrow at the same time")
{
    std::vector<std::thread> threads;
    std::atomic<int> caught{0};
    for (int t = 0; t < 8; t++)
        threads.emplace_back([&caught] {
            for (int i = 0; i < 300; i++) {
                try {
                    throw_many(20);
                } catch (const std::bad_alloc &) {
                    std::exception_ptr kept = std::current_exception();
                    caught += kept != nullptr;
                }
            }
        });
    for (std::thread &thread : threads)
        thread.join();
    REQUIRE(caught == 2400);
}

CASE(iostream_before_main, "streams were constructed, used and hold memory before main; [ios.init]")
{
    std::ostringstream text;
    text << std::hex << 255 << ' ' << 1.5 << std::endl;
    REQUIRE(text.str() == "ff 1.5\n");
    std::ios::sync_with_stdio(false);
    std::cerr.copyfmt(text);
    REQUIRE(std::cout.good() && std::cerr.good());
}

namespace
{

void end_by_terminate(void *)
{
    if (!freopen("/dev/null", "w", stderr)) _exit(3);
    throw std::runtime_error("nobody catches this");
}

} // namespace

CASE(uncaught_exceptions_abort, "an uncaught exception ends in SIGABRT as without the heap; "
                                "[except.terminate]")
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    int status = in_child(end_by_terminate, nullptr);
    REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == 6);
}
