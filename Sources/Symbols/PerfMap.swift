// SPDX-License-Identifier: MIT

/// Names of code made at run time, from the file JIT compilers write for perf: /tmp/perf-PID.map,
/// lines of `START SIZE name`, both numbers hexadecimal.
///
/// Memory is reused as code comes and goes, so entries overlap; the later line is right. They are
/// flattened once into pieces that don't overlap, sorted by start.
package struct PerfMap: Sendable {
    package struct Entry: Sendable, Equatable {
        package let start: UInt64
        package let end: UInt64
        package let name: String
    }

    private struct Line {
        let start: UInt64
        let end: UInt64
        let name: Range<Int>
    }
    private struct Piece {
        let start: UInt64
        let end: UInt64
        let line: Int32
    }
    private let text: [UInt8]
    private let lines: [Line]
    private let pieces: [Piece]

    /// A file larger than this is some other file.
    private static let sizeLimit = 1 << 30

    /// Nil when there is no such regular file.
    ///
    /// `root` as for `Symbolizer`: in a container the file lies in its /tmp, under the process id
    /// it has there.
    package init?(contentsOf path: String, root: String = "") {
        guard let file = try? OpenFile(path, root: root), file.size <= Self.sizeLimit,
            let text = file.contents()
        else { return nil }
        self.init(text: text)
    }

    init(text: [UInt8]) {
        self.text = text
        lines = Self.parse(text)
        pieces = Self.flatten(lines)
    }

    /// The code an address is in.
    package func entry(containing address: UInt64) -> Entry? {
        var low = 0
        var high = pieces.count
        while low < high {
            let middle = low + (high - low) / 2
            if pieces[middle].start <= address { low = middle + 1 } else { high = middle }
        }
        guard low > 0, address < pieces[low - 1].end else { return nil }
        let line = lines[Int(pieces[low - 1].line)]
        return Entry(
            start: line.start, end: line.end, name: String(decoding: text[line.name], as: UTF8.self)
        )
    }

    private static func parse(_ text: [UInt8]) -> [Line] {
        var lines: [Line] = []
        text.withUnsafeBufferPointer { text in
            var position = 0
            while position < text.count {
                var end = position
                while end < text.count, text[end] != UInt8(ascii: "\n") { end += 1 }
                if let line = parseLine(text, position..<end), lines.count < Int32.max {
                    lines.append(line)
                }
                position = end + 1
            }
        }
        return lines
    }

    private static func parseLine(_ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) -> Line?
    {
        var position = range.lowerBound
        guard let start = number(text, &position, range.upperBound),
            let size = number(text, &position, range.upperBound), size > 0,
            position < range.upperBound
        else { return nil }
        let (end, overflow) = start.addingReportingOverflow(size)
        guard !overflow else { return nil }
        return Line(start: start, end: end, name: position..<range.upperBound)
    }

    /// A hexadecimal number and the blanks after it.
    private static func number(
        _ text: UnsafeBufferPointer<UInt8>, _ position: inout Int, _ end: Int
    ) -> UInt64? {
        if position + 1 < end, text[position] == UInt8(ascii: "0"),
            text[position + 1] | 0x20 == UInt8(ascii: "x")
        {
            position += 2
        }
        var value: UInt64 = 0
        var digits = 0
        while position < end, let digit = hexDigit(text[position]) {
            guard value >> 60 == 0 else { return nil }
            value = value << 4 | UInt64(digit)
            digits += 1
            position += 1
        }
        guard digits > 0, position < end, text[position] == UInt8(ascii: " ") else { return nil }
        while position < end, text[position] == UInt8(ascii: " ") { position += 1 }
        return value
    }

    /// Sweeps over all starts and ends; of the lines open at a place the last in the file counts.
    private static func flatten(_ lines: [Line]) -> [Piece] {
        let byStart = lines.indices.sorted { (lines[$0].start, $0) < (lines[$1].start, $1) }
        var open = MaxHeap()
        var pieces: [Piece] = []
        var place: UInt64 = 0
        var next = 0
        while next < byStart.count || !open.isEmpty {
            while let top = open.top, lines[top].end <= place { open.removeTop() }
            let nextStart = next < byStart.count ? lines[byStart[next]].start : .max
            if let top = open.top {
                let end = min(lines[top].end, nextStart)
                if end > place {
                    pieces.append(Piece(start: place, end: end, line: Int32(top)))
                    place = end
                    continue
                }
            }
            guard next < byStart.count else { continue }
            place = nextStart
            open.insert(byStart[next])
            next += 1
        }
        return pieces
    }
}

/// Largest number first.
private struct MaxHeap {
    private var values: [Int] = []
    var isEmpty: Bool { values.isEmpty }
    var top: Int? { values.first }

    mutating func insert(_ value: Int) {
        values.append(value)
        var child = values.count - 1
        while child > 0, values[(child - 1) / 2] < values[child] {
            values.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func removeTop() {
        values.swapAt(0, values.count - 1)
        values.removeLast()
        var parent = 0
        while true {
            var largest = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < values.count && values[child] > values[largest] {
                largest = child
            }
            if largest == parent { return }
            values.swapAt(parent, largest)
            parent = largest
        }
    }
}
