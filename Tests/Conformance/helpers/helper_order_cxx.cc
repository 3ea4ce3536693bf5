/* helper_order_cxx: C++ objects that own memory, as statics, thread_locals and locals of main;
 * streams used before main and after it. Prints the stations it passed. */
/* SPDX-License-Identifier: MIT */
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace
{

void say(const char *word)
{
    std::cout << word << std::flush;
}

struct Owner {
    std::map<std::string, std::vector<int>> table;
    const char *end;

    Owner(const char *begin, const char *end_word) : end(end_word)
    {
        for (int i = 0; i < 500; i++)
            table["name " + std::to_string(i)].resize(static_cast<size_t>(i));
        say(begin);
    }
    ~Owner()
    {
        table["last"].assign(1000, 1);
        std::string text(5000, 'x');
        say(end);
    }
};

/* Constructed before main, destructed after it. */
Owner early("static", " static-end\n");
std::unique_ptr<std::string> adopted;

void in_thread()
{
    thread_local Owner mine("", " thread_local");
    adopted = std::make_unique<std::string>(mine.table.size() * 100, 'y');
}

} // namespace

int main()
{
    say(" main");
    std::thread(in_thread).join();
    thread_local Owner of_main("", "");
    return adopted->size() == 50000 && !of_main.table.empty() ? 0 : 1;
}
