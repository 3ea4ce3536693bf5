// SPDX-License-Identifier: MIT
// Rust's first mangling: an Itanium nested name whose last part is a hash, with characters C++
// names can't have written as `$LT$` and the like.
//     _ZN4core3ptr24drop_in_place$LT$u8$GT$17h0123456789abcdefE  ->  core::ptr::drop_in_place<u8>

/// Nil when the name is not of this kind.
func demangleRustLegacy(_ name: UnsafeBufferPointer<UInt8>) -> String? {
    guard name.starts(with: "_ZN".utf8) else { return nil }
    var parts: [Slice<UnsafeBufferPointer<UInt8>>] = []
    var position = 3
    while position < name.count, name[position] != UInt8(ascii: "E") {
        var length = 0
        let start = position
        while position < name.count, let digit = decimalDigit(name[position]) {
            length = length * 10 + digit
            guard length <= name.count else { return nil }
            position += 1
        }
        guard position > start, length > 0, length <= name.count - position else { return nil }
        parts.append(name[position..<position + length])
        position += length
    }
    guard position < name.count, isSuffix(name[(position + 1)...]), parts.count > 1,
        let hash = parts.popLast(), isHash(hash)
    else { return nil }
    var text: [UInt8] = []
    for part in parts {
        if !text.isEmpty { text += "::".utf8 }
        guard unescape(part, into: &text) else { return nil }
    }
    return String(decoding: text, as: UTF8.self)
}

func decimalDigit(_ byte: UInt8) -> Int? {
    byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") ? Int(byte - UInt8(ascii: "0")) : nil
}

/// What compilers add after a whole name, as `.llvm.1234` or `.cold`, is left out.
private func isSuffix(_ rest: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
    rest.isEmpty || rest.first == UInt8(ascii: ".")
}

private func isHash(_ part: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
    part.count == 17 && part.first == UInt8(ascii: "h")
        && part.dropFirst().allSatisfy { hexDigit($0) != nil }
}

/// False for an escape that isn't one.
private func unescape(_ part: Slice<UnsafeBufferPointer<UInt8>>, into text: inout [UInt8]) -> Bool {
    let dollar = UInt8(ascii: "$")
    let dot = UInt8(ascii: ".")
    // A part that would start with an escape has an underscore before it.
    var rest = part.starts(with: "_$".utf8) ? part.dropFirst() : part
    while let byte = rest.first {
        if byte == dot, rest.dropFirst().first == dot {
            text += "::".utf8
            rest = rest.dropFirst(2)
        } else if byte == dollar {
            guard let end = rest.dropFirst().firstIndex(of: dollar),
                let character = escaped(rest[(rest.startIndex + 1)..<end])
            else { return false }
            text += String(character).utf8
            rest = rest[(end + 1)...]
        } else {
            text.append(byte)
            rest = rest.dropFirst()
        }
    }
    return true
}

private func escaped(_ code: Slice<UnsafeBufferPointer<UInt8>>) -> Character? {
    switch String(decoding: code, as: UTF8.self) {
    case "SP": return "@"
    case "BP": return "*"
    case "RF": return "&"
    case "LT": return "<"
    case "GT": return ">"
    case "LP": return "("
    case "RP": return ")"
    case "C": return ","
    case let code where code.hasPrefix("u"):
        guard let value = UInt32(code.dropFirst(), radix: 16), value >= 0x20,
            let scalar = Unicode.Scalar(value)
        else { return nil }
        return Character(scalar)
    default: return nil
    }
}
