// SPDX-License-Identifier: MIT

/// Bytes on their way out.
///
/// What a renderer writes is handed on a megabyte at a time, so that a report of any size needs no
/// memory of its own; without a receiver it is kept (see `text`).
package struct Output: ~Copyable {
    private var bytes: [UInt8] = []
    private let receiver: (([UInt8]) -> Void)?
    private static let portion = 1 << 20

    package init(to receiver: (([UInt8]) -> Void)? = nil) {
        self.receiver = receiver
    }

    package mutating func write(_ text: String) {
        bytes.append(contentsOf: text.utf8)
        if bytes.count >= Self.portion { flush() }
    }

    package mutating func write(line text: String) {
        write(text)
        bytes.append(UInt8(ascii: "\n"))
    }

    mutating func write(_ more: [UInt8]) {
        bytes.append(contentsOf: more)
        if bytes.count >= Self.portion { flush() }
    }

    mutating func write(byte: UInt8) {
        bytes.append(byte)
    }

    /// A number, with blanks before it up to `width`.
    mutating func write(_ number: UInt64, width: Int) {
        let digits = Self.digits(number)
        if digits < width {
            bytes.append(contentsOf: repeatElement(UInt8(ascii: " "), count: width - digits))
        }
        bytes.append(contentsOf: repeatElement(UInt8(ascii: "0"), count: digits))
        var rest = number
        var position = bytes.count - 1
        while rest > 0 {
            bytes[position] = UInt8(ascii: "0") + UInt8(rest % 10)
            rest /= 10
            position -= 1
        }
    }

    static func digits(_ number: UInt64) -> Int {
        var digits = 1
        var rest = number / 10
        while rest > 0 {
            digits += 1
            rest /= 10
        }
        return digits
    }

    package mutating func flush() {
        guard let receiver, !bytes.isEmpty else { return }
        receiver(bytes)
        bytes.removeAll(keepingCapacity: true)
    }

    /// All that was written so far.
    package consuming func takeBytes() -> [UInt8] { bytes }

    /// What a renderer makes, as one string.
    package static func text(_ render: (inout Output) -> Void) -> String {
        var output = Output()
        render(&output)
        return String(decoding: output.bytes, as: UTF8.self)
    }
}
