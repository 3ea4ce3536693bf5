// SPDX-License-Identifier: MIT
// Values of const generics, and identifiers with characters outside ASCII.

extension RustV0 {
    mutating func constant(inValue: Bool) throws(Malformed) {
        try nested { (self) throws(Malformed) in try self.constantBody(inValue: inValue) }
    }

    private mutating func constantBody(inValue: Bool) throws(Malformed) {
        let tag = try next()
        switch tag {
        case UInt8(ascii: "p"):
            try print("_")
        case UInt8(ascii: "B"):
            try backReference { (self) throws(Malformed) in try self.constant(inValue: inValue) }
        case UInt8(ascii: "b"):
            switch try hexDigits() {
            case "0": try print("false")
            case "1": try print("true")
            default: throw Malformed()
            }
        case UInt8(ascii: "c"):
            guard let value = UInt32(try hexDigits(), radix: 16),
                let scalar = Unicode.Scalar(value)
            else { throw Malformed() }
            try print("'\(escaped(scalar, quote: "'"))'")
        case _ where "asixnl".utf8.contains(tag):
            if eat("n") { try print("-") }
            try integer()
        case _ where "htmyoj".utf8.contains(tag):
            try integer()
        default:
            try aggregate(tag, inValue: inValue)
        }
    }

    /// Values that need braces where an expression may not stand by itself.
    private mutating func aggregate(_ tag: UInt8, inValue: Bool) throws(Malformed) {
        if !inValue { try print("{") }
        switch tag {
        case UInt8(ascii: "e"):
            try print("*")
            try string()
        case UInt8(ascii: "R"), UInt8(ascii: "Q"):
            if tag == UInt8(ascii: "R"), eat("e") {
                try string()
            } else {
                try print(tag == UInt8(ascii: "R") ? "&" : "&mut ")
                try constant(inValue: true)
            }
        case UInt8(ascii: "A"):
            try print("[")
            try list { (self) throws(Malformed) in try self.constant(inValue: true) }
            try print("]")
        case UInt8(ascii: "T"):
            try print("(")
            let count = try list { (self) throws(Malformed) in
                try self.constant(inValue: true)
            }
            try print(count == 1 ? ",)" : ")")
        case UInt8(ascii: "V"):
            try path(inValue: true)
            try fields()
        default: throw Malformed()
        }
        if !inValue { try print("}") }
    }

    private mutating func fields() throws(Malformed) {
        switch try next() {
        case UInt8(ascii: "U"): return
        case UInt8(ascii: "T"):
            try print("(")
            try list { (self) throws(Malformed) in try self.constant(inValue: true) }
            try print(")")
        case UInt8(ascii: "S"):
            try print(" { ")
            try list { (self) throws(Malformed) in
                _ = try self.disambiguator()
                try self.print("\(try self.identifier()): ")
                try self.constant(inValue: true)
            }
            try print(" }")
        default: throw Malformed()
        }
    }

    /// Lower-case digits up to `_`, without leading zeros.
    private mutating func hexDigits() throws(Malformed) -> String {
        let start = position
        while true {
            let byte = try next()
            if byte == UInt8(ascii: "_") { break }
            guard hexDigit(byte) != nil, byte < UInt8(ascii: "A") || byte > UInt8(ascii: "F") else {
                throw Malformed()
            }
        }
        let digits = name[start..<position - 1].drop { $0 == UInt8(ascii: "0") }
        return digits.isEmpty ? "0" : String(decoding: digits, as: UTF8.self)
    }

    private mutating func integer() throws(Malformed) {
        let digits = try hexDigits()
        try print(UInt64(digits, radix: 16).map { String($0) } ?? "0x\(digits)")
    }

    /// UTF-8, two digits a byte.
    private mutating func string() throws(Malformed) {
        let start = position
        while try next() != UInt8(ascii: "_") {}
        let digits = name[start..<position - 1]
        guard digits.count.isMultiple(of: 2) else { throw Malformed() }
        var bytes: [UInt8] = []
        var index = digits.startIndex
        while index < digits.endIndex {
            guard let high = hexDigit(digits[index]), let low = hexDigit(digits[index + 1]) else {
                throw Malformed()
            }
            bytes.append(high << 4 | low)
            index += 2
        }
        guard let value = String(validating: bytes, as: UTF8.self) else { throw Malformed() }
        try print("\"")
        for scalar in value.unicodeScalars { try print(escaped(scalar, quote: "\"")) }
        try print("\"")
    }

    private func escaped(_ scalar: Unicode.Scalar, quote: Unicode.Scalar) -> String {
        switch scalar {
        case "\n": "\\n"
        case "\r": "\\r"
        case "\t": "\\t"
        case "\0": "\\0"
        case "\\", quote: "\\\(scalar)"
        case _ where scalar.value < 0x20 || scalar.value == 0x7f:
            "\\u{\(String(scalar.value, radix: 16))}"
        default: String(Character(scalar))
        }
    }
}

/// RFC 3492, with `_` before the digits as Rust has it; nil when malformed.
func decodePunycode(_ bytes: Slice<UnsafeBufferPointer<UInt8>>) -> String? {
    var scalars: [Unicode.Scalar] = []
    var digits = bytes
    if let separator = bytes.lastIndex(of: UInt8(ascii: "_")) {
        scalars = bytes[..<separator].map { Unicode.Scalar($0) }
        digits = bytes[(separator + 1)...]
    }
    guard !digits.isEmpty, bytes.count <= 1024 else { return nil }
    var state = (code: 0x80, index: 0, bias: 72, isFirst: true)
    var position = digits.startIndex
    while position < digits.endIndex {
        let before = state.index
        var weight = 1
        var threshold = 36
        while true {
            guard position < digits.endIndex, let digit = punycodeDigit(digits[position]) else {
                return nil
            }
            position += 1
            state.index += digit * weight
            let limit = min(max(threshold - state.bias, 1), 26)
            if digit < limit { break }
            weight *= 36 - limit
            threshold += 36
            guard weight < 1 << 32, state.index < 1 << 32 else { return nil }
        }
        let count = scalars.count + 1
        state.bias = punycodeBias(state.index - before, count: count, isFirst: state.isFirst)
        state.isFirst = false
        state.code += state.index / count
        state.index %= count
        guard state.code <= 0x10ffff, let scalar = Unicode.Scalar(UInt32(state.code)) else {
            return nil
        }
        scalars.insert(scalar, at: state.index)
        state.index += 1
    }
    var text = ""
    text.unicodeScalars.append(contentsOf: scalars)
    return text
}

private func punycodeDigit(_ byte: UInt8) -> Int? {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"): Int(byte - UInt8(ascii: "a"))
    case UInt8(ascii: "0")...UInt8(ascii: "9"): Int(byte - UInt8(ascii: "0")) + 26
    default: nil
    }
}

private func punycodeBias(_ delta: Int, count: Int, isFirst: Bool) -> Int {
    var delta = isFirst ? delta / 700 : delta / 2
    delta += delta / count
    var steps = 0
    while delta > 455 {
        delta /= 35
        steps += 36
    }
    return steps + 36 * delta / (delta + 38)
}
