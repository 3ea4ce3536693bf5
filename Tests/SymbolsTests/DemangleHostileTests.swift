// SPDX-License-Identifier: MIT

import Testing

@testable import Symbols

/// Names are read from files of processes nobody vouches for.
@Suite struct DemangleHostileTests {
    private static let valid = [
        "_ZNSt6vectorIiSaIiEE9push_backEOi", "$s4main3BoxV4pushyyxFSi_Tg5",
        "_ZN4core3ptr24drop_in_place$LT$u8$GT$17h0123456789abcdefE",
        "_RINvC1a1fKVNtB2_1STj7_EE", "_RINvC1a1fFG_RL0_hEjE",
        "_RNqC1au30____7hkackfecea1cbdathfdh9hlq6y",
    ]

    @Test(arguments: valid)
    func everyPrefixAndEveryChangedByteEnds(name: String) {
        let bytes = Array(name.utf8)
        for count in 0...bytes.count {
            #expect(demangle(String(decoding: bytes[..<count], as: UTF8.self)).utf8.count < 1000)
        }
        for index in bytes.indices {
            for byte in stride(from: UInt8(1), to: 255, by: 7) {
                var changed = bytes
                changed[index] = byte
                let text = demangle(String(decoding: changed, as: UTF8.self))
                #expect(!text.isEmpty && text.utf8.count <= 1 << 16)
            }
        }
    }

    @Test func deepNamesEnd() {
        let depth = 20_000
        for name in [
            "_R" + String(repeating: "NvYC1a", count: depth),
            "_RINvC1a1f" + String(repeating: "R", count: depth),
            "_RINvC1a1f" + String(repeating: "T", count: depth),
            "_RINvC1a1f" + String(repeating: "FG_", count: depth),
            "_Z" + String(repeating: "N1a", count: depth),
            "_Z1f" + String(repeating: "P", count: depth) + "i",
            "$s" + String(repeating: "4main", count: depth),
            "$s" + String(repeating: "Say", count: 2000) + "Si"
                + String(repeating: "G", count: 2000) + "D",
            "_ZN" + String(repeating: "1a", count: depth) + "17h0123456789abcdefE",
        ] {
            #expect(demangle(name).utf8.count <= 1 << 18)
        }
    }

    /// A reference to itself, forward, or far too large.
    @Test(arguments: [
        "_RB_", "_RNvB_1a", "_RINvC1a1fB9_E", "_RBzzzzzzzzzzzzzzzz_", "_RINvC1a1fRB8_E",
    ])
    func senselessReferencesAreRefused(name: String) {
        #expect(demangle(name) == name)
    }

    @Test func rustNamesThatExplodeStayMangled() {
        // A tuple of twice the one before, sixty times over: 2^60 parts.
        var name = "_RINvC1a1fThhE"
        var last = 8
        for _ in 0..<60 {
            let reference = "B\(base62(last))_"
            last = name.utf8.count - 2
            name += "T\(reference)\(reference)E"
        }
        name += "E"
        #expect(demangle(name) == name)
    }

    private func base62(_ value: Int) -> String {
        guard value > 0 else { return "" }
        let digits = Array("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
        var rest = value - 1
        var text = String(digits[rest % 62])
        rest /= 62
        while rest > 0 {
            text = String(digits[rest % 62]) + text
            rest /= 62
        }
        return text
    }

    @Test(arguments: [3, 8, 16, 24, 45])
    func cxxNamesThatExplodeStayMangled(levels: Int) {
        // P<A, A>, then P of twice the one before.
        let digits = Array("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        func substitution(_ index: Int) -> String {
            let rest = index - 1
            let high = rest / 36 > 0 ? String(digits[rest / 36]) : ""
            return "S\(high)\(digits[rest % 36])_"
        }
        var name = "_Z1f1A1PIS_S_E"
        for level in 0..<levels {
            let last = substitution(level + 2)
            name += "S0_I\(last)\(last)E"
        }
        let text = demangle(name)
        #expect((text == name) == (levels > 8), "\(levels) levels give \(text.utf8.count) bytes")
    }

    /// Behind the fence honest names come out as without it.
    @Test func manyReferencesAreNoHindrance() {
        let parameters = String(repeating: "S_", count: 40)
        let expected = Array(repeating: "Foo", count: 41).joined(separator: ", ")
        #expect(demangle("_Z1f3Foo\(parameters)") == "f(\(expected))")
    }
}
