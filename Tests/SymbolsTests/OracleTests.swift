// SPDX-License-Identifier: MIT

import Testing

@testable import Symbols

/// The same questions put to binutils' addr2line, on a file that has everything: its own debug
/// information, inlined calls, code of several compilers.
@Suite(.enabled(if: Scratch.has("addr2line") && Scratch.has("g++"))) struct OracleTests {
    private static let program = """
        #include <algorithm>
        #include <functional>
        #include <map>
        #include <string>
        #include <vector>
        struct Shape { virtual ~Shape() {} virtual double area(int n) const = 0; };
        struct Square : Shape { double s = 2; double area(int n) const override { return s * n; } };
        static std::map<std::string, std::vector<int>> index_words(int n) {
            std::map<std::string, std::vector<int>> words;
            for (int i = 0; i < n; i++) words[std::to_string(i % 7)].push_back(i);
            return words;
        }
        int main(int argc, char **) {
            auto words = index_words(argc * 100);
            std::vector<std::string> keys;
            for (auto &word : words) keys.push_back(word.first);
            std::sort(keys.begin(), keys.end(), std::greater<>());
            std::function<int(int)> sum = [&](int k) { return int(words[keys[0]].size()) + k; };
            Square square;
            const Shape &shape = square;
            return sum(argc) + int(shape.area(argc)) + int(keys.size());
        }

        """

    // DWARF 5 files tell addr2line 2.40 the wrong source file now and then.
    @Test(arguments: [
        ["-O2", "-gdwarf-4"], ["-O2", "-gdwarf-5"], ["-O0", "-gdwarf-4"],
        ["-O1", "-gdwarf-4", "-no-pie"],
    ])
    func agreesWithAddr2line(flags: [String]) throws {
        let scratch = try Scratch()
        try scratch.write(Self.program, to: "words.cpp")
        try scratch.run(["g++"] + flags + ["words.cpp", "-o", "program"])
        let addresses = try codeAddresses(scratch)
        let expected = try oracle(scratch, addresses)
        let module = Module(
            path: scratch.path("program"), buildID: [], start: 0, end: 1 << 40, bias: 0)
        let symbolizer = Symbolizer(modules: [module])
        var compared = 0
        var different: [String] = []
        for address in addresses {
            let found = symbolizer.locations(ofReturnAddress: address + 1, epoch: 0)
            let theirs = expected[address] ?? []
            // Padding between functions: addr2line gives it to the function before.
            guard found.last?.function != nil, found[0].file != nil else { continue }
            compared += 1
            let ours = found.map { "\($0.file ?? "??"):\($0.line.map(String.init) ?? "?")" }
            if ours != theirs.map(\.position) || !sameName(found, theirs.map(\.function)) {
                different.append("\(String(address, radix: 16)): \(ours) \(theirs)")
            }
        }
        #expect(compared > 3000)
        #expect(
            different.count * 100 <= compared,
            "\(different.count) of \(compared): \(different.prefix(3))")
    }

    /// The outermost function, up to its parameters: addr2line calls the parts of a function that
    /// were moved away by their symbols, and functions without mangled name by their bare one.
    private func sameName(_ ours: [Location], _ theirs: [String]) -> Bool {
        func plain(_ name: String) -> String {
            var name = name
            for suffix in [" [clone .cold]", ".cold"] where name.hasSuffix(suffix) {
                name = String(name.dropLast(suffix.count))
            }
            return name
        }
        guard let mine = ours.last?.function, let other = theirs.last else { return false }
        return plain(mine) == plain(other) || plain(mine).hasSuffix("::\(plain(other))")
    }

    private func codeAddresses(_ scratch: Scratch) throws -> [UInt64] {
        let sections = try scratch.run(["readelf", "-SW", "program"])
        let line = try #require(sections.split(separator: "\n").first { $0.contains(" .text ") })
        let words = line.split(separator: " ").drop { $0 != ".text" }.map(String.init)
        let start = try #require(UInt64(words[2], radix: 16))
        let size = try #require(UInt64(words[4], radix: 16))
        return Array(start..<start + size)
    }

    private func oracle(
        _ scratch: Scratch, _ addresses: [UInt64]
    ) throws -> [UInt64: [(function: String, position: String)]] {
        let questions = addresses.map { String($0, radix: 16) }.joined(separator: "\n") + "\n"
        let lines = try scratch.run(["addr2line", "-afiC", "-e", "program"], input: questions)
            .split(separator: "\n").map(String.init)
        var answers: [UInt64: [(function: String, position: String)]] = [:]
        var current: UInt64 = 0
        var index = 0
        while index < lines.count {
            if lines[index].hasPrefix("0x") {
                current = UInt64(lines[index].dropFirst(2), radix: 16) ?? 0
                index += 1
            } else {
                let position = lines[index + 1].split(separator: " ").first.map(String.init) ?? ""
                answers[current, default: []].append((lines[index], position))
                index += 2
            }
        }
        return answers
    }
}
