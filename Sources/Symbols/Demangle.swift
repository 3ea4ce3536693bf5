// SPDX-License-Identifier: MIT
// Names as their programmers wrote them. C++ and Swift names go to the demanglers of their own
// runtimes, Rust's, which have no such library, to ours. What is no mangled name, or a damaged one,
// stays as it is.

import CDemangle
import Glibc

/// Longest text a name may become: names repeat parts of themselves by reference, so a short one
/// can stand for more text than fits in memory.
let demangledLimit = Int(MC_DEMANGLE_MAX)

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
        return demangleRustLegacy(name) ?? cxx(name)
    case (UInt8(ascii: "_"), UInt8(ascii: "_")) where name.starts(with: "___Z".utf8):
        return cxx(name)
    case (UInt8(ascii: "$"), _), (UInt8(ascii: "_"), UInt8(ascii: "$")),
        (UInt8(ascii: "_"), UInt8(ascii: "T")), (UInt8(ascii: "@"), _):
        return isSwift(name) ? swift(name) : nil
    default:
        return nil
    }
}

private func isSwift(_ name: UnsafeBufferPointer<UInt8>) -> Bool {
    ["$s", "_$s", "$S", "_$S", "$e", "_$e", "_T0", "@__swiftmacro_"].contains {
        name.starts(with: $0.utf8)
    }
}

private func cxx(_ name: UnsafeBufferPointer<UInt8>) -> String? {
    // S_, S0_ … and T_, T0_ … repeat what came before; St, Sa, Ss and the like are abbreviations.
    let references = name.indices.count {
        name[$0] == UInt8(ascii: "_") && $0 > 0 && isReferenceEnd(name[..<$0])
    }
    return demangled(name, as: MC_LANGUAGE_CXX, references: references)
}

/// Does `S`, `T` and nothing but digits of base 36 stand at the end?
private func isReferenceEnd(_ text: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
    for byte in text.reversed() {
        switch byte {
        case UInt8(ascii: "S"), UInt8(ascii: "T"): return true
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"): continue
        default: return false
        }
    }
    return false
}

private func swift(_ name: UnsafeBufferPointer<UInt8>) -> String? {
    // An A starts references to earlier parts: "AbC" is two, "A3b" the same one three times.
    var references = name.count > 1024 ? harmlessGrowth : 0
    var isReference = false
    for byte in name {
        let isLetter = byte | 0x20 >= UInt8(ascii: "a") && byte | 0x20 <= UInt8(ascii: "z")
        let isDigit = decimalDigit(byte) != nil
        // Bytes below the blank would be read as pointers.
        guard byte >= UInt8(ascii: " ") else { return nil }
        if isReference, isDigit { references += repetitionGrowth }
        isReference = byte == UInt8(ascii: "A") || (isReference && isLetter)
        if isReference { references += 1 }
    }
    return demangled(name, as: MC_LANGUAGE_SWIFT, references: references)
}

/// How often a name can double in size and still be harmless, counted from one byte.
private let harmlessGrowth = 22
/// swift_demangle repeats a part 2048 times at most.
private let repetitionGrowth = 11

private func demangled(
    _ name: UnsafeBufferPointer<UInt8>, as language: mc_language, references: Int
) -> String? {
    let name = String(decoding: name, as: UTF8.self)
    // With every reference a name can double in size, no more.
    if references <= harmlessGrowth, name.utf8.count << references <= 1 << harmlessGrowth {
        guard let text = mc_demangle(language, name) else { return nil }
        defer { free(text) }
        return String(cString: text)
    }
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(MC_DEMANGLE_MAX)) { text in
        guard let start = text.baseAddress, mc_demangle_fenced(language, name, start) >= 0 else {
            return nil
        }
        return String(cString: start)
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
