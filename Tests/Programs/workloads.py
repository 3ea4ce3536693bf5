# SPDX-License-Identifier: MIT
"""Sources that more than one program is given to work on."""

# Deep template recursion, much instantiation, exceptions, containers and regular expressions: the
# compiler allocates millions of small objects, and the result can be run to see that it is right.
TEMPLATES = r"""
#ifdef LONG
enum { COUNT = 24 };
#else
enum { COUNT = 6 };
#endif
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#ifdef LONG
#include <regex>
#endif
#include <sstream>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>
template <unsigned long N> struct fib { static constexpr unsigned long value = fib<N - 1>::value + fib<N - 2>::value; };
template <> struct fib<0> { static constexpr unsigned long value = 0; };
template <> struct fib<1> { static constexpr unsigned long value = 1; };
template <int N> struct node { node<N - 1> inner; int own = N; int sum() const { return own + inner.sum(); } };
template <> struct node<0> { int sum() const { return 0; } };
template <class... T> struct pack { using type = std::variant<T...>; std::tuple<T...> all; };
template <int... I> auto tables(std::integer_sequence<int, I...>)
{
    return std::make_tuple(std::map<std::string, std::vector<node<I>>>{}...);
}
template <class T, int N> struct wrap { std::unique_ptr<T> p = std::make_unique<T>(); };
template <class T> struct wrap<T, 0> { T t{}; };
template <class T, int N> struct chain { using type = wrap<typename chain<T, N - 1>::type, N>; };
template <class T> struct chain<T, 0> { using type = wrap<T, 0>; };
struct fault : std::runtime_error { using std::runtime_error::runtime_error; };
static int thrower(int depth) { std::string s(depth * 10, 'x'); if (!depth) throw fault("deep"); return thrower(depth - 1) + (int)s.size(); }
int main()
{
    std::cout << fib<80>::value << ' ' << node<60>{}.sum() << '\n';
    auto t = tables(std::make_integer_sequence<int, COUNT>{});
    std::get<3>(t)["a"].resize(5);
    chain<std::string, 20>::type c; (void)c;
    std::unordered_map<std::string, int> words;
    std::string text; for (int i = 0; i < 2000; i++) text += "word" + std::to_string(i % 97) + " ";
#ifdef LONG
    std::regex word("([a-z]+)([0-9]*)");
    for (std::sregex_iterator i(text.begin(), text.end(), word), e; i != e; ++i) words[(*i)[0]]++;
#else
    std::istringstream split(text);
    for (std::string each; split >> each;) words[each]++;
#endif
    std::vector<std::pair<std::string, int>> sorted(words.begin(), words.end());
    std::sort(sorted.begin(), sorted.end());
    std::cout << sorted.size() << ' ' << sorted[5].first << ' ' << sorted[5].second << '\n';
    std::vector<std::thread> threads; std::vector<long> sums(4);
    for (int n = 0; n < 4; n++) threads.emplace_back([n, &sums] {
        for (int i = 0; i < 20000; i++) { std::vector<int> v(i % 300 + 1, n); sums[n] += v.back() + (long)v.size(); }
        int caught = 0; for (int i = 0; i < 300; i++) try { thrower(i % 20); } catch (const fault &) { caught++; }
        sums[n] += caught;
    });
    for (auto &thread : threads) thread.join();
    for (long sum : sums) std::cout << sum << ' ';
    pack<int, std::string, double>::type any = std::string("held");
    std::cout << std::get<std::string>(any) << std::endl;
}
"""

SWIFT = r"""
protocol Shape { var area: Double { get }; func scaled(by k: Double) -> any Shape }
struct Square: Shape { var side: Double; var area: Double { side * side }
    func scaled(by k: Double) -> any Shape { Square(side: side * k) } }
final class Tree<Key: Comparable & Hashable, Value> {
    indirect enum Branch { case leaf, fork(Branch, Key, Value, Branch) }
    var root = Branch.leaf; var count = 0
    func insert(_ key: Key, _ value: Value) { root = Self.add(root, key, value); count += 1 }
    static func add(_ branch: Branch, _ key: Key, _ value: Value) -> Branch {
        switch branch {
        case .leaf: return .fork(.leaf, key, value, .leaf)
        case .fork(let l, let k, let v, let r):
            return key < k ? .fork(add(l, key, value), k, v, r) : .fork(l, k, v, add(r, key, value))
        }
    }
    func fold<T>(_ start: T, _ f: (T, Key, Value) -> T) -> T {
        func walk(_ b: Branch, _ t: T) -> T {
            if case .fork(let l, let k, let v, let r) = b { return walk(r, f(walk(l, t), k, v)) }
            return t
        }
        return walk(root, start)
    }
}
extension Sequence where Element: Hashable {
    func tally() -> [Element: Int] { reduce(into: [:]) { $0[$1, default: 0] += 1 } }
}
@main struct Program {
    static func main() async {
        let tree = Tree<String, any Shape>()
        for i in 0..<2000 { tree.insert("k\((i * 7919) % 10007)", Square(side: Double(i % 13))) }
        print(tree.count, tree.fold(0.0) { $0 + $2.scaled(by: 2).area })
        let words = (0..<20000).map { "w\($0 % 101)" }
        print(words.tally().filter { $0.value > 198 }.count, words.joined().count)
        let sums = await withTaskGroup(of: Int.self, returning: [Int].self) { group in
            for n in 0..<8 { group.addTask { (0..<5000).map { String($0 * n) }.reduce(0) { $0 + $1.utf8.count } } }
            var all: [Int] = []; for await sum in group { all.append(sum) }
            return all.sorted()
        }
        print(sums)
    }
}
"""
