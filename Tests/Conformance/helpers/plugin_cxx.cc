/* plugin_cxx: a C++ library with static and thread_local objects that own memory, and exceptions. */
/* SPDX-License-Identifier: MIT */
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace
{

struct Owner {
    std::vector<std::string> texts = std::vector<std::string>(200, std::string(100, 'a'));
    ~Owner()
    {
        texts.push_back(std::string(3000, 'b'));
    }
};

std::map<std::string, Owner> statics{{"one", Owner()}, {"two", Owner()}};
thread_local Owner per_thread;
thread_local char large_tls[10000];

} // namespace

extern "C" void *plugin_thread(void *unused)
{
    per_thread.texts.emplace_back(500, 'c');
    large_tls[9999] = 1;
    for (int i = 0; i < 20; i++) {
        try {
            throw std::runtime_error(std::string(1000, 'd'));
        } catch (const std::runtime_error &error) {
            per_thread.texts.emplace_back(error.what());
        }
    }
    return statics.size() == 2 ? unused : &statics;
}
