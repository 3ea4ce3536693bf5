// SPDX-License-Identifier: MIT
// A file that makes a compiler allocate: standard containers and algorithms over many
// instantiated types, recursive templates and folded expressions.
#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N> struct Record {
    int id = N;
    std::string name;
    std::array<double, N % 7 + 1> values{};
    friend bool operator<(const Record &a, const Record &b)
    {
        return std::tie(a.id, a.name, a.values) < std::tie(b.id, b.name, b.values);
    }
};

template <int N> struct Table {
    std::map<std::string, Record<N>> by_name;
    std::unordered_map<int, std::shared_ptr<Record<N>>> by_id;
    std::set<Record<N>> sorted;
    std::variant<Record<N>, Record<N + 1>, std::string> any;
    std::function<std::optional<Record<N>>(int)> find;

    double total(const std::vector<Record<N>> &records)
    {
        for (const auto &record : records) {
            by_name.emplace(record.name, record);
            by_id[record.id] = std::make_shared<Record<N>>(record);
            sorted.insert(record);
        }
        find = [this](int id) -> std::optional<Record<N>> {
            auto found = by_id.find(id);
            if (found == by_id.end()) return std::nullopt;
            return *found->second;
        };
        any = *sorted.begin();
        double sum = std::visit(
            [](const auto &value) {
                if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>)
                    return double(value.size());
                else
                    return value.values[0];
            },
            any);
        return std::accumulate(sorted.begin(), sorted.end(), sum,
                               [](double s, const Record<N> &r) { return s + r.values[0]; });
    }
};

template <std::size_t... I> double all(std::index_sequence<I...>)
{
    return (Table<int(I)>().total(std::vector<Record<int(I)>>(3)) + ...);
}

double everything()
{
    return all(std::make_index_sequence<3>());
}
