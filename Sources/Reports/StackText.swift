// SPDX-License-Identifier: MIT

/// Writes the frames of one row after the other.
///
/// The text of a place is made once, as bytes: a hundred thousand stacks share a few thousand
/// places.
struct StackText {
    private let lines: [[[UInt8]]]
    private let frameLimit: Int?
    /// "    #12  ", by frame number.
    private let prefixes: [[UInt8]]
    private let blank: [UInt8]
    private static let indent = "    "
    private static let numberWidth = 4

    init(_ places: [Place], frameLimit: Int?) {
        let prefix = Self.indent.count + Self.numberWidth + 1
        let hanging = String(repeating: " ", count: prefix + 2)
        lines = places.map { place in
            place.lines(width: Layout.width - prefix, indent: hanging).map {
                Array(($0 + "\n").utf8)
            }
        }
        prefixes = (0..<512).map { Self.prefix($0) }
        blank = [UInt8](repeating: UInt8(ascii: " "), count: prefix)
        self.frameLimit = frameLimit
    }

    private static func prefix(_ number: Int) -> [UInt8] {
        Array((indent + Layout.left("#\(number)", numberWidth) + " ").utf8)
    }

    func write(_ row: TraceReport.Row, to output: inout Output) {
        if row.isOverflow {
            return output.write(line: Self.indent + "(stacks that found the table full)")
        }
        if row.frames.isEmpty { output.write(line: Self.indent + "(no frames)") }
        var shown = 0
        for run in Folding.runs(of: row.frames) {
            if let frameLimit, shown >= frameLimit {
                let rest = UInt64(row.frames.count - run.range.lowerBound)
                let what = rest == 1 ? "frame" : "frames"
                return output.write(line: Self.indent + "... \(rest) more \(what)")
            }
            for index in run.range {
                write(place: row.frames[index], number: index, to: &output)
            }
            shown += run.range.count
            if run.repeats > 1 {
                output.write(Self.indent)
                output.write("... repeated ")
                output.write(UInt64(run.repeats), width: 0)
                output.write(" times")
                output.write(
                    line: run.range.count == 1 ? "" : " (\(run.range.count) frames)")
            }
        }
        if row.isCut { output.write(line: Self.indent + "... deeper than the depth kept") }
        if row.isStopped { output.write(line: Self.indent + "... no unwind information beyond") }
    }

    private func write(place: Int32, number: Int, to output: inout Output) {
        // Inlined functions and the one they are in share a frame, and so its number.
        var prefix = number < prefixes.count ? prefixes[number] : Self.prefix(number)
        for line in lines[Int(place)] {
            output.write(prefix)
            output.write(line)
            prefix = blank
        }
    }
}
