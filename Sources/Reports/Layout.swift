// SPDX-License-Identifier: MIT

/// Text in columns.
package enum Layout {
    package static let width = 80

    package static func right(_ text: String, _ width: Int) -> String {
        let missing = width - text.count
        return missing > 0 ? String(repeating: " ", count: missing) + text : text
    }

    package static func left(_ text: String, _ width: Int) -> String {
        let missing = width - text.count
        return missing > 0 ? text + String(repeating: " ", count: missing) : text
    }

    /// "1 stack", "2 stacks".
    package static func count(_ number: UInt64, _ one: String, _ many: String) -> String {
        "\(number) \(number == 1 ? one : many)"
    }

    /// Text that came out of a process or a file, made safe for a terminal: control characters and
    /// those that turn the direction of writing are shown as \u{...}.
    package static func safe(_ text: String) -> String {
        if text.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7f }) { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate:
                result += "\\u{" + String(scalar.value, radix: 16) + "}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// Bytes in the largest unit that keeps three digits: "1.5 MiB".
    package static func size(_ bytes: UInt64) -> String {
        guard bytes >= 1024 else { return "\(bytes) B" }
        var value = Double(bytes)
        var unit = 0
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
        while value >= 1024, unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        let tenths = UInt64((value * 10).rounded())
        let isRound = tenths % 10 == 0 || value >= 100
        return
            "\(isRound ? "\((tenths + 5) / 10)" : "\(tenths / 10).\(tenths % 10)") \(units[unit])"
    }

    /// The same in at most five characters: "1.5M".
    package static func brief(_ bytes: UInt64) -> String {
        let text = size(bytes)
        let parts = text.split(separator: " ")
        return parts.count == 2 && parts[1] != "B" ? "\(parts[0])\(parts[1].prefix(1))" : "\(bytes)"
    }

    /// A count in at most five characters: "1234", "1.5M"; M is a million.
    package static func thousands(_ count: UInt64) -> String {
        guard count >= 10_000 else { return "\(count)" }
        var (unit, rest) = (count, 0 as UInt64)
        var steps = 0
        while unit >= 1000 { (unit, rest, steps) = (unit / 1000, unit % 1000, steps + 1) }
        let tenths = unit < 100 ? ".\(rest / 100)" : ""
        return "\(unit)\(tenths)" + ["", "k", "M", "G", "T", "P", "E"][steps]
    }

    /// Seconds as "3d 04h", "2h 05m", "1m 07s", "9s".
    package static func duration(_ nanoseconds: UInt64) -> String {
        let seconds = nanoseconds / 1_000_000_000
        func two(_ number: UInt64) -> String { number < 10 ? "0\(number)" : "\(number)" }
        switch seconds {
        case ..<60: return "\(seconds)s"
        case ..<3600: return "\(seconds / 60)m \(two(seconds % 60))s"
        case ..<86400: return "\(seconds / 3600)h \(two(seconds / 60 % 60))m"
        default: return "\(seconds / 86400)d \(two(seconds / 3600 % 24))h"
        }
    }

    /// Seconds as a number: "10 s", "0.25 s".
    package static func seconds(_ nanoseconds: UInt64) -> String {
        let hundredths = nanoseconds / 10_000_000
        var fraction = hundredths % 100 < 10 ? "0\(hundredths % 100)" : "\(hundredths % 100)"
        while fraction.hasSuffix("0") { fraction.removeLast() }
        return "\(hundredths / 100)" + (fraction.isEmpty ? "" : "." + fraction) + " s"
    }

    /// Parts behind a title, with commas, in lines of at most `width`; later ones are indented.
    package static func folded(
        _ title: String, _ parts: [String], separator: String = ",", indent: String = "    "
    ) -> [String] {
        var lines: [String] = []
        var line = title
        for (index, part) in parts.enumerated() {
            let text = part + (index + 1 < parts.count ? separator : "")
            if line.count + 1 + text.count > width, line != indent, index > 0 {
                lines.append(line)
                line = indent + text
            } else {
                line += line.isEmpty || line == indent ? text : " " + text
            }
        }
        return lines + [line]
    }

    /// Words in lines of at most `width`, the first behind `indent`, others behind `hanging`.
    ///
    /// A word that is longer than a line has one of its own.
    package static func wrapped(
        _ text: String, indent: String = "", hanging: String = "", width: Int = width
    ) -> [String] {
        var lines: [String] = []
        var line = indent
        var isEmpty = true
        for word in text.split(separator: " ") {
            if !isEmpty, line.count + 1 + word.count > width {
                lines.append(line)
                line = hanging
                isEmpty = true
            }
            line += (isEmpty ? "" : " ") + word
            isEmpty = false
        }
        return lines + [line]
    }

    /// A table with sizes in full, or in units where it would be too wide for a terminal.
    package static func fitting(
        _ header: [String], rightAligned: Set<Int>,
        _ rows: (_ size: (UInt64) -> String) -> [[String]]
    ) -> [String] {
        let lines = table(header, rows { "\($0)" }, rightAligned: rightAligned)
        return isWide(lines) ? table(header, rows(brief), rightAligned: rightAligned) : lines
    }

    /// The same; where units for sizes are not enough, counts get theirs too.
    package static func fitting(
        _ header: [String], rightAligned: Set<Int>,
        _ rows: (_ size: (UInt64) -> String, _ count: (UInt64) -> String) -> [[String]]
    ) -> [String] {
        func full(_ number: UInt64) -> String { "\(number)" }
        var lines = table(header, rows(full, full), rightAligned: rightAligned)
        if isWide(lines) { lines = table(header, rows(brief, full), rightAligned: rightAligned) }
        if isWide(lines) {
            lines = table(header, rows(brief, thousands), rightAligned: rightAligned)
        }
        return lines
    }

    private static func isWide(_ lines: [String]) -> Bool {
        lines.contains { $0.count > width }
    }

    /// Table rows; a column is as wide as its widest cell, numbers stand right.
    package static func table(
        _ header: [String], _ rows: [[String]], rightAligned: Set<Int>
    ) -> [String] {
        let widths = header.indices.map { column in
            ([header] + rows).map { $0[column].count }.max() ?? 0
        }
        return ([header] + rows).map { cells in
            let line = cells.indices.map { column in
                if rightAligned.contains(column) { return right(cells[column], widths[column]) }
                return column == cells.count - 1
                    ? cells[column] : left(cells[column], widths[column])
            }.joined(separator: "  ")
            return String(line.reversed().drop { $0 == " " }.reversed())
        }
    }
}
