// SPDX-License-Identifier: MIT

import Testing

@testable import Symbols

@Suite(.enabled(if: Scratch.has("g++") && Scratch.has("nm"))) struct SymbolizerTests {
    private static let compilers = ["g++", "clang++"].filter(Scratch.has)
    private static let flags: [[String]] = [
        ["-O2", "-gdwarf-4"], ["-O2", "-gdwarf-5"], ["-O2", "-g", "-gz"], ["-O2", "-g", "-no-pie"],
        ["-O2", "-g", "-gsplit-dwarf"], ["-O1", "-g", "-fPIE", "-pie"],
        ["-O2", "-g", "-ffunction-sections"],
    ]

    @Test(arguments: compilers, flags)
    func inlinedCallsAreShownInnermostFirst(compiler: String, flags: [String]) throws {
        let fixture = try Fixture(compiler: compiler, flags)
        let bias: UInt64 = flags.contains("-no-pie") ? 0 : 0x7f00_0000_0000
        let symbolizer = Symbolizer(modules: [fixture.module(bias: bias)])
        let found = try fixture.locations("mark_add", symbolizer, bias: bias)
        #expect(
            Fixture.text(found) == [
                "+shop::Basket<int>::add(int) shop.cpp:6",
                "+shop::fill(shop::Basket<int>&, int) shop.cpp:10",
                "shop::visit(int) shop.cpp:15",
            ])
        #expect(found.allSatisfy { $0.file == fixture.scratch.path("shop.cpp") })
        #expect(found.allSatisfy { $0.module == fixture.program })
        let address = try fixture.address("mark_add") + 1
        #expect(found.allSatisfy { $0.moduleOffset == address })
        #expect(found.last?.offset == address - (try fixture.address("_ZN4shop5visitEi")))
        #expect(
            Fixture.text(try fixture.locations("mark_hidden", symbolizer, bias: bias))
                == ["shop::(anonymous namespace)::hidden(int) shop.cpp:20"])
        #expect(
            Fixture.text(try fixture.locations("mark_plain", symbolizer, bias: bias))
                == ["plain shop.cpp:26"])
        let lambda = try fixture.locations("mark_lambda", symbolizer, bias: bias)
        #expect(lambda.count == 1 && lambda[0].line == 31)
        let names = [
            "main::{lambda(int)#1}::operator()(int) const", "main::$_0::operator()(int) const",
        ]
        #expect(names.contains { lambda[0].function?.hasPrefix($0) == true })
        #expect(symbolizer.problems == [])
    }

    @Test func aReturnAddressBelongsToTheCallBeforeIt() throws {
        let fixture = try Fixture()
        let symbolizer = Symbolizer(modules: [fixture.module()])
        let entry = try fixture.address("plain") + 0x7f00_0000_0000
        let before = symbolizer.locations(ofReturnAddress: entry, epoch: 0)
        #expect(before.last?.function != "plain")
        let after = symbolizer.locations(ofReturnAddress: entry + 1, epoch: 0)
        #expect(after.last?.function == "plain" && after.last?.offset == 1)
    }

    @Test func withoutDebugInformationTheSymbolTableNames() throws {
        let fixture = try Fixture(["-O2"])
        let symbolizer = Symbolizer(modules: [fixture.module()], debugDirectories: [])
        #expect(
            Fixture.text(try fixture.locations("mark_add", symbolizer)) == ["shop::visit(int) ?:?"])
        #expect(Fixture.text(try fixture.locations("mark_plain", symbolizer)) == ["plain ?:?"])
    }

    @Test func strippedProgramsKeepTheirDynamicSymbols() throws {
        let fixture = try Fixture(["-O2", "-g", "-rdynamic", "-Wl,--strip-all"])
        // The labels are exported too; the linker stripped what nm reads.
        let symbolizer = Symbolizer(modules: [fixture.module()], debugDirectories: [])
        let dynamic = try fixture.scratch.run(["nm", "-D", "program"])
        let line = try #require(dynamic.split(separator: "\n").first { $0.hasSuffix(" T plain") })
        let address = try #require(UInt64(line.split(separator: " ")[0], radix: 16))
        let found = symbolizer.locations(ofReturnAddress: 0x7f00_0000_0000 + address + 3, epoch: 0)
        #expect(Fixture.text(found) == ["plain ?:?"])
        #expect(found.first?.offset == 3)
    }

    @Test func addressesOutsideCodeHaveNoName() throws {
        let fixture = try Fixture()
        let symbolizer = Symbolizer(modules: [fixture.module()])
        let bias: UInt64 = 0x7f00_0000_0000
        #expect(
            symbolizer.locations(ofReturnAddress: bias + 0xff_0000, epoch: 0)
                == [Location(module: fixture.program, moduleOffset: 0xff_0000)])
        #expect(symbolizer.locations(ofReturnAddress: 0x1234, epoch: 0) == [Location()])
        #expect(symbolizer.locations(ofReturnAddress: .max, epoch: 0) == [Location()])
    }

    @Test func epochsTellSuccessorsApart() throws {
        let old = try Fixture()
        let new = try Fixture(["-O0", "-g"])
        var first = old.module()
        first.lastEpoch = 4
        var second = new.module()
        second.firstEpoch = 5
        let symbolizer = Symbolizer(modules: [first, second])
        for (fixture, epochs) in [(old, [0, 4]), (new, [5, 6, .max])] as [(Fixture, [UInt32])] {
            let pc = 0x7f00_0000_0000 + (try fixture.address("mark_plain")) + 1
            for epoch in epochs {
                let found = symbolizer.locations(ofReturnAddress: pc, epoch: epoch)
                #expect(found.last?.function == "plain" && found.last?.module == fixture.program)
            }
        }
        let pc = 0x7f00_0000_0000 + (try old.address("mark_add")) + 1
        #expect(symbolizer.locations(ofReturnAddress: pc, epoch: 4).count == 3)
        #expect(symbolizer.locations(ofReturnAddress: pc, epoch: 5).count == 1)
        #expect(symbolizer.locations(ofReturnAddress: pc, epoch: 4).count == 3)
    }

    @Test(.enabled(if: Scratch.has("swiftc"))) func swiftFunctions() throws {
        let scratch = try Scratch()
        try scratch.write(
            """
            struct Shelf<Item> {
                var items: [Item] = []
                @inline(never) mutating func put(_ item: Item) { items.append(item) }
            }
            var shelf = Shelf<Int>()
            shelf.put(CommandLine.arguments.count)
            print(shelf.items)

            """, to: "shelf.swift")
        try scratch.run([
            "swiftc", "-O", "-g", "-module-name", "shelf", "shelf.swift", "-o", "program",
        ])
        let found = try everything(in: scratch)
        #expect(
            found.contains {
                $0.function?.hasSuffix("shelf.Shelf.put(A) -> ()") == true && $0.line == 3
                    && $0.file == scratch.path("shelf.swift")
            })
        #expect(!found.contains { $0.function?.contains("$s") == true })
    }

    @Test(.enabled(if: Scratch.has("rustc")), arguments: ["legacy", "v0"])
    func rustFunctions(mangling: String) throws {
        let scratch = try Scratch()
        try scratch.write(
            """
            mod shelf {
                pub struct Shelf<T>(pub Vec<T>);
                impl<T> Shelf<T> {
                    #[inline(never)]
                    pub fn put(&mut self, item: T) { self.0.push(item) }
                }
            }
            fn main() {
                let mut shelf = shelf::Shelf(Vec::new());
                shelf.put(std::env::args().count());
                println!("{:?}", shelf.0);
            }

            """, to: "shelf.rs")
        do {
            try scratch.run([
                "rustc", "-O", "-g", "-C", "symbol-mangling-version=\(mangling)", "shelf.rs", "-o",
                "program",
            ])
        } catch  where mangling == "legacy" {
            return  // compilers of today only allow it when unstable options are on
        }
        let found = try everything(in: scratch)
        #expect(
            found.contains {
                $0.function?.contains("shelf::Shelf<") == true
                    && $0.function?.hasSuffix("::put") == true && $0.line == 5
                    && $0.file == scratch.path("shelf.rs")
            })
        #expect(!found.contains { $0.function?.hasPrefix("_R") == true })
        #expect(!found.contains { $0.function?.contains("$LT$") == true })
    }

    /// All locations of all addresses between the first and the last function of `program`.
    private func everything(in scratch: Scratch) throws -> [Location] {
        let addresses = try scratch.run(["nm", "--defined-only", "program"]).split(separator: "\n")
            .filter { $0.contains(" t ") || $0.contains(" T ") }
            .compactMap { UInt64($0.split(separator: " ")[0], radix: 16) }
        let module = Module(
            path: scratch.path("program"), buildID: [], start: 0, end: 1 << 40, bias: 0)
        let symbolizer = Symbolizer(modules: [module])
        return addresses.flatMap { address in
            (address..<address + 200).flatMap {
                symbolizer.locations(ofReturnAddress: $0 + 1, epoch: 0)
            }
        }
    }
}
