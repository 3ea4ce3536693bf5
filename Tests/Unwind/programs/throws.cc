// SPDX-License-Identifier: MIT
// C++: exceptions thrown and caught through frames with destructors, allocation during unwinding,
// std::function, virtual calls, iostreams, std::sort with a throwing comparison.
#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

static volatile unsigned sink;

struct Noisy {
    std::string text;
    explicit Noisy(unsigned i) : text(i % 90 + 20, 'n')
    {
    }
    ~Noisy()
    {
        sink += std::string(text + "gone").size();
    }
};

struct Base {
    virtual ~Base() = default;
    virtual void run(unsigned depth, unsigned i) = 0;
};

struct Thrower : Base {
    void run(unsigned depth, unsigned i) override
    {
        Noisy noisy(i);
        if (depth == 0) throw std::runtime_error("number " + std::to_string(i));
        std::function<void()> next = [&] { run(depth - 1, i + 1); };
        next();
    }
};

static unsigned catching(unsigned i)
{
    try {
        std::unique_ptr<Base> base = std::make_unique<Thrower>();
        base->run(i % 12, i);
    } catch (const std::exception &error) {
        std::ostringstream out;
        out << error.what() << ' ' << i * 1.5;
        return out.str().size();
    }
    return 0;
}

static unsigned rethrowing(unsigned i)
{
    try {
        try {
            return catching(i) + std::vector<int>().at(i);
        } catch (...) {
            Noisy noisy(i);
            throw;
        }
    } catch (const std::out_of_range &error) {
        return std::string(error.what()).size();
    }
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? std::stod(argv[1]) : 2;
    auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    for (unsigned i = 0; std::chrono::steady_clock::now() < end; i++) {
        sink += rethrowing(i);
        std::map<std::string, unsigned> words;
        for (unsigned k = 0; k < 50; k++)
            words[std::to_string(k * i)] += k;
        std::vector<std::string> names;
        for (auto &word : words)
            names.push_back(word.first);
        try {
            std::sort(names.begin(), names.end(), [&](const std::string &a, const std::string &b) {
                if ((a.size() + b.size() + i) % 97 == 0) throw 1;
                return a > b;
            });
        } catch (int) {
            sink++;
        }
    }
}
