// SPDX-License-Identifier: MIT

import Glibc
import Testing

@testable import Symbols

@Suite struct PerfMapTests {
    private func names(_ text: String, _ addresses: [UInt64]) -> [String?] {
        let map = PerfMap(text: Array(text.utf8))
        return addresses.map { map.entry(containing: $0)?.name }
    }

    @Test func linesAreStartSizeName() {
        let text = "1000 10 LazyCompile:~f /a b.js:1\n0x2000 0x20 g\n7f0000000000 1 h"
        #expect(
            names(text, [0xfff, 0x1000, 0x100f, 0x1010, 0x2000, 0x201f, 0x2020, 0x7f00_0000_0000])
                == [
                    nil, "LazyCompile:~f /a b.js:1", "LazyCompile:~f /a b.js:1", nil, "g", "g", nil,
                    "h",
                ])
    }

    @Test func theLaterOfOverlappingEntriesWins() {
        let text = "1000 100 old\n1040 20 inner\n1050 100 later\n"
        #expect(
            names(text, [0x1000, 0x103f, 0x1040, 0x104f, 0x1050, 0x10ff, 0x114f, 0x1150])
                == ["old", "old", "inner", "inner", "later", "later", "later", nil])
        // Code moved away and something larger came: the old entry is hidden altogether.
        #expect(names("1010 10 a\n1000 100 b\n", [0x100f, 0x1015, 0x1020]) == ["b", "b", "b"])
        // The end of a later entry shows the earlier one again.
        #expect(names("1000 100 a\n1010 10 b\n", [0x100f, 0x1010, 0x1020]) == ["a", "b", "a"])
    }

    @Test func theStartIsTheEntrysOwn() {
        let map = PerfMap(text: Array("1000 100 a\n1010 10 b\n".utf8))
        #expect(map.entry(containing: 0x1020)?.start == 0x1000)
    }

    @Test(arguments: [
        "", "\n\n", "1000", "1000 ", "1000 10", "1000 10 ", "x y z", "-1 10 a", "1000 0 a",
        " 1000 10 a",
        "ffffffffffffffff 2 a", "11111111111111111 1 a", "1000 11111111111111111 a", "0x 0x a",
    ])
    func linesThatAreNoneAreLeftOut(line: String) {
        #expect(names(line, [0x1000, 0, .max]) == [nil, nil, nil])
        #expect(names(line + "\n2000 10 ok\n", [0x2000]) == ["ok"])
    }

    @Test func bytesThatAreNoTextAreReplaced() {
        let map = PerfMap(text: Array("1000 10 a".utf8) + [0xff, 0x62])
        #expect(map.entry(containing: 0x1000)?.name == "a\u{fffd}b")
    }

    @Test func agreesWithSearchingAllLines() {
        var seed: UInt64 = 7
        func random(_ below: UInt64) -> UInt64 {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (seed >> 33) % below
        }
        let lines = (0..<300).map { (start: random(500), size: 1 + random(60), name: "n\($0)") }
        let text = lines.map {
            "\(String($0.start, radix: 16)) \(String($0.size, radix: 16)) \($0.name)\n"
        }.joined()
        let expected = (UInt64(0)..<600).map { address in
            lines.last { $0.start <= address && address < $0.start + $0.size }?.name
        }
        #expect(names(text, Array(0..<600)) == expected)
    }

    @Test func onlyRegularFilesAreRead() throws {
        let scratch = try Scratch()
        let fifo = scratch.path("fifo")
        #expect(mkfifo(fifo, 0o600) == 0)
        for path in [fifo, scratch.path(""), scratch.path("absent"), "/dev/zero", "", "a\0b"] {
            #expect(PerfMap(contentsOf: path) == nil)
        }
        try scratch.write("1000 10 f\n", to: "map")
        #expect(PerfMap(contentsOf: scratch.path("map"))?.entry(containing: 0x1000)?.name == "f")
        #expect(
            PerfMap(contentsOf: "/map", root: scratch.path(""))?.entry(containing: 0x1000) != nil)
    }

    @Test func namesCodeOutsideAllModules() {
        let map = PerfMap(text: Array("1000 10 jitted\n".utf8))
        let symbolizer = Symbolizer(modules: [], perfMap: map)
        #expect(
            symbolizer.locations(ofReturnAddress: 0x1010, epoch: 3)
                == [Location(function: "jitted", offset: 0x10)])
        #expect(symbolizer.locations(ofReturnAddress: 0x1011, epoch: 3) == [Location()])
        #expect(symbolizer.locations(ofReturnAddress: 0, epoch: 3) == [Location()])
    }
}
