// SPDX-License-Identifier: MIT
// Names as their programmers wrote them. C++ and Swift names go to the demanglers of their own
// runtimes, Rust's, which have no such library, to ours. What is no mangled name, or a damaged one,
// stays as it is.

/// Longest text a name may become: names repeat parts of themselves by reference, so a short one
/// can stand for more text than fits in memory.
let demangledLimit = 1 << 16

package func demangle(_ name: String) -> String {
    var name = name
    return name.withUTF8 { demangled($0) } ?? name
}

private func demangled(_ name: UnsafeBufferPointer<UInt8>) -> String? {
    guard name.count > 2, name.count < demangledLimit, !name.contains(0) else { return nil }
    switch (name[0], name[1]) {
    case (UInt8(ascii: "_"), UInt8(ascii: "R")):
        var rust = RustV0(name)
        return rust.demangle()
    case (UInt8(ascii: "_"), UInt8(ascii: "Z")):
        return demangleRustLegacy(name) ?? demangleCxx(name)
    case (UInt8(ascii: "$"), _), (UInt8(ascii: "_"), UInt8(ascii: "$")),
        (UInt8(ascii: "_"), UInt8(ascii: "T")), (UInt8(ascii: "@"), _):
        return isSwift(name) ? demangleSwift(name) : nil
    default:
        return nil
    }
}

private func isSwift(_ name: UnsafeBufferPointer<UInt8>) -> Bool {
    ["$s", "_$s", "$S", "_$S", "$e", "_$e", "_T0", "@__swiftmacro_"].contains {
        name.starts(with: $0.utf8)
    }
}

/// Value of a lower- or upper-case hexadecimal digit.
func hexDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
}
