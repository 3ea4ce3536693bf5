// SPDX-License-Identifier: MIT

/// Rust's mangling of today, `_R…`, written down in RFC 2603: a prefix code in which any part may be
/// a reference to an earlier place in the name, which is then read again.
///
/// A reader that calls itself for every part: `depth` bounds the calls, `steps` the parts read,
/// references included, and `demangledLimit` the text, so that no name costs more than a moment.
struct RustV0 {
    let name: UnsafeBufferPointer<UInt8>
    var position = 2
    private var text: [UInt8] = []
    /// Parts are read without being printed where only their place matters.
    var isSilent = false
    private var depth = 0
    private var steps = 0
    /// Lifetimes named by the `for<…>` around us.
    private var boundLifetimes = 0

    private static let depthLimit = 300
    private static let stepLimit = 1 << 16

    struct Malformed: Error {}

    /// `name` starts with `_R`.
    init(_ name: UnsafeBufferPointer<UInt8>) { self.name = name }

    /// Nil when the name breaks the rules.
    mutating func demangle() -> String? {
        do {
            try path(inValue: true)
            // The crate that asked for this copy of generic code.
            if let next = peek(), next >= UInt8(ascii: "A"), next <= UInt8(ascii: "Z") {
                isSilent = true
                try path(inValue: false)
            }
        } catch { return nil }
        guard position == name.count || peek() == UInt8(ascii: ".") || peek() == UInt8(ascii: "$")
        else { return nil }
        return String(decoding: text, as: UTF8.self)
    }
}

// MARK: - Reading and printing

extension RustV0 {
    func peek() -> UInt8? { position < name.count ? name[position] : nil }

    mutating func next() throws(Malformed) -> UInt8 {
        guard position < name.count else { throw Malformed() }
        position += 1
        return name[position - 1]
    }

    mutating func eat(_ character: Unicode.Scalar) -> Bool {
        guard peek() == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    mutating func print(_ string: String) throws(Malformed) {
        guard !isSilent else { return }
        text += string.utf8
        guard text.count <= demangledLimit else { throw Malformed() }
    }

    /// Everything that calls itself goes through here.
    mutating func nested<Value>(
        _ body: (inout RustV0) throws(Malformed) -> Value
    ) throws(Malformed) -> Value {
        depth += 1
        steps += 1
        defer { depth -= 1 }
        guard depth <= Self.depthLimit, steps <= Self.stepLimit else { throw Malformed() }
        return try body(&self)
    }

    /// Reads again from an earlier place; after its `B` was eaten.
    mutating func backReference(
        _ body: (inout RustV0) throws(Malformed) -> Void
    ) throws(Malformed) {
        let here = position - 1
        let target = try base62()
        guard target < UInt64(here - 2) else { throw Malformed() }
        guard !isSilent else { return }
        let after = position
        position = Int(target) + 2
        try nested(body)
        position = after
    }

    /// `_` is 0, `0_` is 1, and so on.
    mutating func base62() throws(Malformed) -> UInt64 {
        if eat("_") { return 0 }
        var value: UInt64 = 0
        while true {
            let byte = try next()
            let digit: UInt8
            switch byte {
            case UInt8(ascii: "_"):
                guard value < .max else { throw Malformed() }
                return value + 1
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "z"): digit = byte - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): digit = byte - UInt8(ascii: "A") + 36
            default: throw Malformed()
            }
            let (product, overflow) = value.multipliedReportingOverflow(by: 62)
            let (sum, overflow2) = product.addingReportingOverflow(UInt64(digit))
            guard !overflow, !overflow2 else { throw Malformed() }
            value = sum
        }
    }

    /// A number after `tag`, shifted so that its absence is 0.
    mutating func optionalBase62(_ tag: Unicode.Scalar) throws(Malformed) -> UInt64 {
        guard eat(tag) else { return 0 }
        let value = try base62()
        guard value < .max else { throw Malformed() }
        return value + 1
    }

    mutating func disambiguator() throws(Malformed) -> UInt64 { try optionalBase62("s") }

    /// An identifier without its number.
    mutating func identifier() throws(Malformed) -> String {
        let isPunycode = eat("u")
        guard let first = peek(), var length = decimalDigit(first) else { throw Malformed() }
        position += 1
        if length > 0 {
            while let byte = peek(), let digit = decimalDigit(byte) {
                length = length * 10 + digit
                guard length <= name.count else { throw Malformed() }
                position += 1
            }
        }
        _ = eat("_")
        guard length <= name.count - position else { throw Malformed() }
        let bytes = name[position..<position + length]
        position += length
        if isPunycode {
            return decodePunycode(bytes) ?? "punycode{\(String(decoding: bytes, as: UTF8.self))}"
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

// MARK: - Paths

extension RustV0 {
    mutating func path(inValue: Bool) throws(Malformed) {
        try nested { (self) throws(Malformed) in try self.pathBody(inValue: inValue) }
    }

    mutating func pathBody(inValue: Bool) throws(Malformed) {
        switch try next() {
        case UInt8(ascii: "C"):
            _ = try disambiguator()
            try print(try identifier())
        case UInt8(ascii: "N"):
            try nestedName(inValue: inValue)
        case UInt8(ascii: "M"):
            try skipImplementation()
            try print("<")
            try type()
            try print(">")
        case UInt8(ascii: "X"):
            try skipImplementation()
            try traitImplementation()
        case UInt8(ascii: "Y"):
            try traitImplementation()
        case UInt8(ascii: "I"):
            try path(inValue: inValue)
            try print(inValue ? "::<" : "<")
            try genericArguments()
            try print(">")
        case UInt8(ascii: "B"):
            try backReference { (self) throws(Malformed) in try self.path(inValue: inValue) }
        default: throw Malformed()
        }
    }

    mutating func nestedName(inValue: Bool) throws(Malformed) {
        let namespace = try next()
        try path(inValue: inValue)
        let number = try disambiguator()
        let name = try identifier()
        switch namespace {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"):
            let kind =
                switch namespace {
                case UInt8(ascii: "C"): "closure"
                case UInt8(ascii: "S"): "shim"
                default: String(Unicode.Scalar(namespace))
                }
            try print("::{\(kind)\(name.isEmpty ? "" : ":" + name)#\(number)}")
        case UInt8(ascii: "a")...UInt8(ascii: "z"):
            if !name.isEmpty { try print("::\(name)") }
        default: throw Malformed()
        }
    }

    /// Where an `impl` stands; nobody misses it in print.
    mutating func skipImplementation() throws(Malformed) {
        _ = try disambiguator()
        let wasSilent = isSilent
        isSilent = true
        try path(inValue: false)
        isSilent = wasSilent
    }

    mutating func traitImplementation() throws(Malformed) {
        try print("<")
        try type()
        try print(" as ")
        try path(inValue: false)
        try print(">")
    }

    mutating func genericArguments() throws(Malformed) {
        try list { (self) throws(Malformed) in
            if self.eat("L") {
                try self.lifetime(try self.base62())
            } else if self.eat("K") {
                try self.constant(inValue: false)
            } else {
                try self.type()
            }
        }
    }

    /// Items up to the `E` that ends them, separated by commas; returns how many.
    @discardableResult
    mutating func list(
        _ item: (inout RustV0) throws(Malformed) -> Void
    ) throws(Malformed) -> Int {
        var count = 0
        while !eat("E") {
            if count > 0 { try print(", ") }
            try nested(item)
            count += 1
        }
        return count
    }

    /// 0 is erased; others count outwards from the innermost binder.
    mutating func lifetime(_ index: UInt64) throws(Malformed) {
        guard index > 0 else { return try print("'_") }
        guard index <= UInt64(boundLifetimes) else { throw Malformed() }
        let number = boundLifetimes - Int(index)
        if number < 26 {
            try print("'\(Unicode.Scalar(UInt8(ascii: "a") + UInt8(number)))")
        } else {
            try print("'_\(number)")
        }
    }
}

// MARK: - Types

extension RustV0 {
    static let basicTypes: [UInt8: String] = [
        UInt8(ascii: "a"): "i8", UInt8(ascii: "b"): "bool", UInt8(ascii: "c"): "char",
        UInt8(ascii: "d"): "f64", UInt8(ascii: "e"): "str", UInt8(ascii: "f"): "f32",
        UInt8(ascii: "h"): "u8", UInt8(ascii: "i"): "isize", UInt8(ascii: "j"): "usize",
        UInt8(ascii: "l"): "i32", UInt8(ascii: "m"): "u32", UInt8(ascii: "n"): "i128",
        UInt8(ascii: "o"): "u128", UInt8(ascii: "p"): "_", UInt8(ascii: "s"): "i16",
        UInt8(ascii: "t"): "u16", UInt8(ascii: "u"): "()", UInt8(ascii: "v"): "...",
        UInt8(ascii: "x"): "i64", UInt8(ascii: "y"): "u64", UInt8(ascii: "z"): "!",
    ]

    mutating func type() throws(Malformed) {
        try nested { (self) throws(Malformed) in try self.typeBody() }
    }

    mutating func typeBody() throws(Malformed) {
        let tag = try next()
        if let basic = Self.basicTypes[tag] { return try print(basic) }
        switch tag {
        case UInt8(ascii: "R"), UInt8(ascii: "Q"):
            try print("&")
            if eat("L") {
                let index = try base62()
                if index > 0 {
                    try lifetime(index)
                    try print(" ")
                }
            }
            if tag == UInt8(ascii: "Q") { try print("mut ") }
            try type()
        case UInt8(ascii: "P"), UInt8(ascii: "O"):
            try print(tag == UInt8(ascii: "P") ? "*const " : "*mut ")
            try type()
        case UInt8(ascii: "A"), UInt8(ascii: "S"):
            try print("[")
            try type()
            if tag == UInt8(ascii: "A") {
                try print("; ")
                try constant(inValue: true)
            }
            try print("]")
        case UInt8(ascii: "T"):
            try print("(")
            let count = try list { (self) throws(Malformed) in try self.type() }
            try print(count == 1 ? ",)" : ")")
        case UInt8(ascii: "F"):
            try binder { (self) throws(Malformed) in try self.function() }
        case UInt8(ascii: "D"):
            try print("dyn ")
            try binder { (self) throws(Malformed) in try self.traitObject() }
            guard eat("L") else { throw Malformed() }
            let index = try base62()
            if index > 0 {
                try print(" + ")
                try lifetime(index)
            }
        case UInt8(ascii: "B"):
            try backReference { (self) throws(Malformed) in try self.type() }
        default:
            position -= 1
            try path(inValue: false)
        }
    }

    /// Prints `for<'a, 'b> ` and what it is about.
    mutating func binder(
        _ body: (inout RustV0) throws(Malformed) -> Void
    ) throws(Malformed) {
        let count = try optionalBase62("G")
        guard count <= 1000 else { throw Malformed() }
        let outer = boundLifetimes
        if count > 0 {
            try print("for<")
            for index in 0..<count {
                if index > 0 { try print(", ") }
                boundLifetimes += 1
                try lifetime(1)
            }
            try print("> ")
        }
        try body(&self)
        boundLifetimes = outer
    }

    mutating func function() throws(Malformed) {
        if eat("U") { try print("unsafe ") }
        if eat("K") {
            let abi =
                eat("C") ? "C" : try identifier().map { $0 == "_" ? "-" : String($0) }.joined()
            try print("extern \"\(abi)\" ")
        }
        try print("fn(")
        try list { (self) throws(Malformed) in try self.type() }
        try print(")")
        if eat("u") { return }
        try print(" -> ")
        try type()
    }

    mutating func traitObject() throws(Malformed) {
        var count = 0
        while !eat("E") {
            if count > 0 { try print(" + ") }
            try nested { (self) throws(Malformed) in try self.boundTrait() }
            count += 1
        }
    }

    /// A trait and what it says of its associated types: `Iterator<Item = u8>`.
    mutating func boundTrait() throws(Malformed) {
        var isOpen = try pathLeftOpen()
        while eat("p") {
            try print(isOpen ? ", " : "<")
            isOpen = true
            try print("\(try identifier()) = ")
            try type()
        }
        if isOpen { try print(">") }
    }

    /// A path; true when it ended in generic arguments whose `>` was not printed.
    mutating func pathLeftOpen() throws(Malformed) -> Bool {
        if eat("B") {
            var isOpen = false
            try backReference { (self) throws(Malformed) in isOpen = try self.pathLeftOpen() }
            return isOpen
        }
        guard eat("I") else {
            try path(inValue: false)
            return false
        }
        try path(inValue: false)
        try print("<")
        try genericArguments()
        return true
    }
}
