// SPDX-License-Identifier: MIT

import Testing

@testable import Symbols

@Suite struct DemangleTests {
    @Test(arguments: [
        ("main", "main"),
        ("", ""),
        ("_ZN1a1b1C3runEi", "a::b::C::run(int)"),
    ])
    func namesReadAsWritten(mangled: String, expected: String) {
        #expect(demangle(mangled) == expected)
    }
}
