// SPDX-License-Identifier: MIT
// Programs compiled for a test. Labels in their machine code tell where to look: `mark_add` is an
// instruction of the function `add`, wherever that was inlined.

import Testing

@testable import Symbols

struct Fixture {
    /// Mind the line numbers, tests name them.
    static let source = """
        namespace shop {
        template <typename T> struct Basket {
            T total;
            inline __attribute__((always_inline)) void add(T item) {
                total += item;
                __asm__ volatile(".globl mark_add\\nmark_add: nop" ::: "memory");
            }
        };
        inline __attribute__((always_inline)) int fill(Basket<int> &basket, int n) {
            basket.add(n);
            return basket.total;
        }
        __attribute__((noinline)) int visit(int n) {
            Basket<int> basket{n};
            return fill(basket, n) +
                   1;
        }
        namespace {
        __attribute__((noinline)) int hidden(int n) {
            __asm__ volatile(".globl mark_hidden\\nmark_hidden: nop" ::: "memory");
            return n + 2;
        }
        }
        }
        extern "C" __attribute__((noinline, visibility("default"))) int plain(int n) {
            __asm__ volatile(".globl mark_plain\\nmark_plain: nop" ::: "memory");
            return shop::visit(n) + shop::hidden(n);
        }
        int main(int argc, char **argv) {
            auto twice = [argv](int n) __attribute__((noinline)) {
                __asm__ volatile(".globl mark_lambda\\nmark_lambda: nop" ::: "memory");
                return argv ? 2 * n : 0;
            };
            return plain(argc) + twice(argc);
        }

        """

    let scratch: Scratch
    private let marks: [String: UInt64]
    let buildID: [UInt8]
    var program: String { scratch.path("program") }

    static let buildIDText = "0123456789abcdef0123456789abcdef01234567"

    init(compiler: String = "g++", _ flags: [String] = ["-O2", "-g"]) throws {
        scratch = try Scratch()
        try scratch.write(Self.source, to: "shop.cpp")
        try scratch.run(
            [compiler] + flags + [
                "-Wl,--build-id=0x\(Self.buildIDText)", "shop.cpp", "-o", "program",
            ])
        var marks: [String: UInt64] = [:]
        for line in try scratch.run(["nm", "program"]).split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count == 3 { marks[String(words[2])] = UInt64(words[0], radix: 16) }
        }
        self.marks = marks
        var rest = Self.buildIDText[...]
        var bytes: [UInt8] = []
        while let byte = UInt8(rest.prefix(2), radix: 16) {
            bytes.append(byte)
            rest = rest.dropFirst(2)
        }
        buildID = bytes
    }

    /// Address of a symbol in the file.
    func address(_ symbol: String) throws -> UInt64 { try #require(marks[symbol]) }

    func module(
        _ path: String? = nil, bias: UInt64 = 0x7f00_0000_0000, buildID: [UInt8]? = nil
    ) -> Module {
        Module(
            path: path ?? program, buildID: buildID ?? self.buildID, start: bias,
            end: bias + 0x100_0000, bias: bias)
    }

    /// What the symbolizer says of the instruction at a label.
    func locations(
        _ symbol: String, _ symbolizer: Symbolizer, bias: UInt64 = 0x7f00_0000_0000
    ) throws -> [Location] {
        symbolizer.locations(ofReturnAddress: bias + (try address(symbol)) + 1, epoch: 0)
    }

    /// `function file:line` of each, the file without its directories; "+" before inlined ones.
    static func text(_ locations: [Location]) -> [String] {
        locations.map { location in
            let file = location.file.map { $0.split(separator: "/").last.map(String.init) ?? $0 }
            return (location.isInlined ? "+" : "") + (location.function ?? "?")
                + " \(file ?? "?"):\(location.line.map(String.init) ?? "?")"
        }
    }
}
