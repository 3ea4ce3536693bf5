// SPDX-License-Identifier: MIT

/// Writes JSON (RFC 8259) while a report is gone through; commas and escapes are its business.
///
///     JSONWriter.write(to: &output) { json in
///         json.object { json in
///             json.field("pid", 12)
///             json.array("rows") { json in json.value("text") }
///         }
///     }
package struct JSONWriter: ~Copyable {
    private var output: Output
    /// The next value of the innermost object or array is not its first.
    private var needsComma = false

    private init(_ output: consuming Output) {
        self.output = output
    }

    /// One JSON text and a line's end.
    package static func write(to output: inout Output, _ body: (inout JSONWriter) -> Void) {
        var json = JSONWriter(output)
        body(&json)
        json.output.write(byte: UInt8(ascii: "\n"))
        output = json.release()
    }

    private consuming func release() -> Output { output }

    // MARK: Containers

    package mutating func object(_ key: String? = nil, _ body: (inout JSONWriter) -> Void) {
        enclose(key, "{", "}", body)
    }

    package mutating func array(_ key: String? = nil, _ body: (inout JSONWriter) -> Void) {
        enclose(key, "[", "]", body)
    }

    /// An array with an object for each element.
    package mutating func objects<Element>(
        _ key: String, _ elements: some Sequence<Element>,
        _ body: (inout JSONWriter, Element) -> Void
    ) {
        array(key) { json in
            for element in elements { json.object { body(&$0, element) } }
        }
    }

    private mutating func enclose(
        _ key: String?, _ open: Unicode.Scalar, _ close: Unicode.Scalar,
        _ body: (inout JSONWriter) -> Void
    ) {
        begin(key)
        output.write(byte: UInt8(ascii: open))
        needsComma = false
        body(&self)
        output.write(byte: UInt8(ascii: close))
        needsComma = true
    }

    // MARK: Values

    package mutating func field(_ key: String, _ value: String?) {
        begin(key)
        writeString(value)
    }

    package mutating func field(_ key: String, _ value: UInt64?) {
        begin(key)
        output.write(value.map { String($0) } ?? "null")
    }

    package mutating func field(_ key: String, _ value: Int?) {
        begin(key)
        output.write(value.map { String($0) } ?? "null")
    }

    /// Tenths, as a number with one decimal.
    package mutating func field(_ key: String, decimal tenths: UInt64?) {
        begin(key)
        output.write(tenths.map { "\($0 / 10).\($0 % 10)" } ?? "null")
    }

    package mutating func field(_ key: String, signed value: Int64?) {
        begin(key)
        output.write(value.map { String($0) } ?? "null")
    }

    package mutating func field(_ key: String, _ value: Bool) {
        begin(key)
        output.write(value ? "true" : "false")
    }

    package mutating func value(_ value: String) {
        begin(nil)
        writeString(value)
    }

    /// Values that were written before, with commas between them: a part of an array.
    mutating func raw(_ bytes: [UInt8]) {
        guard !bytes.isEmpty else { return }
        begin(nil)
        output.write(bytes)
    }

    private mutating func begin(_ key: String?) {
        if needsComma { output.write(byte: UInt8(ascii: ",")) }
        needsComma = true
        guard let key else { return }
        writeString(key)
        output.write(byte: UInt8(ascii: ":"))
    }

    private mutating func writeString(_ text: String?) {
        guard let text else { return output.write("null") }
        var bytes: [UInt8] = [UInt8(ascii: "\"")]
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                bytes.append(UInt8(ascii: "\\"))
                bytes.append(byte)
            case 0x0a: bytes.append(contentsOf: "\\n".utf8)
            case 0x09: bytes.append(contentsOf: "\\t".utf8)
            case 0x00..<0x20, 0x7f:
                let digits = String(byte, radix: 16)
                bytes.append(contentsOf: (digits.count < 2 ? "\\u000" : "\\u00").utf8)
                bytes.append(contentsOf: digits.utf8)
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
        output.write(bytes)
    }
}
