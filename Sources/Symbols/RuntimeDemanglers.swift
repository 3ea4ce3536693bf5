// SPDX-License-Identifier: MIT
// The C++ runtime's and Swift's own demangler. They know no limit: a name that refers to parts of
// itself often enough to explode is handed to a child process whose memory and time are limited.

import CDemangle
import Glibc

func demangleCxx(_ name: UnsafeBufferPointer<UInt8>) -> String? {
    // S_, S0_ … and T_, T0_ … repeat what came before.
    var growth = 0
    var mayExpand = false  // expressions, where "sp" is no part of a word
    for index in name.indices.dropFirst() {
        switch (name[index - 1], name[index]) {
        case (_, UInt8(ascii: "_")): growth += isReferenceEnd(name[..<index]) ? 1 : 0
        case (_, UInt8(ascii: "X")): mayExpand = true
        // Pack expansions repeat their pattern for every argument of the pack.
        case (UInt8(ascii: "D"), UInt8(ascii: "p")): growth += expansionGrowth
        case (UInt8(ascii: "s"), UInt8(ascii: "p")): growth += mayExpand ? expansionGrowth : 0
        default: break
        }
    }
    return demangled(name, as: MC_LANGUAGE_CXX, growth: growth)
}

/// True when `S` or `T` and nothing but digits of base 36 stand at the end.
private func isReferenceEnd(_ text: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
    for byte in text.reversed() {
        switch byte {
        case UInt8(ascii: "S"), UInt8(ascii: "T"): return true
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"):
            continue
        default: return false
        }
    }
    return false
}

func demangleSwift(_ name: UnsafeBufferPointer<UInt8>) -> String? {
    // An A starts references to earlier parts: "AbC" is two, "A3b" the same one three times.
    var growth = name.count > 1024 ? harmlessGrowth : 0
    var isReference = false
    for byte in name {
        let isLetter = byte | 0x20 >= UInt8(ascii: "a") && byte | 0x20 <= UInt8(ascii: "z")
        let isDigit = decimalDigit(byte) != nil
        // Bytes below the blank would be read as pointers.
        guard byte >= UInt8(ascii: " ") else { return nil }
        if isReference, isDigit { growth += repetitionGrowth }
        isReference = byte == UInt8(ascii: "A") || (isReference && isLetter)
        if isReference { growth += 1 }
    }
    return demangled(name, as: MC_LANGUAGE_SWIFT, growth: growth)
}

/// Growth is counted in doublings.
///
/// With every reference a text can double, no more; a text of
/// 2^22 bytes is harmless.
private let harmlessGrowth = 22
/// The pack is part of the name: libstdc++ demangles names of up to 1024 bytes.
private let expansionGrowth = 10
/// swift_demangle repeats a part 2048 times at most.
private let repetitionGrowth = 11

private func demangled(
    _ name: UnsafeBufferPointer<UInt8>, as language: mc_language, growth: Int
) -> String? {
    let name = String(decoding: name, as: UTF8.self)
    if growth <= harmlessGrowth, name.utf8.count << growth <= 1 << harmlessGrowth {
        guard let text = mc_demangle(language, name) else { return nil }
        defer { free(text) }
        return String(cString: text)
    }
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(MC_DEMANGLE_MAX)) {
        text in
        guard let start = text.baseAddress, mc_demangle_fenced(language, name, start) >= 0
        else {
            return nil
        }
        return String(cString: start)
    }
}
