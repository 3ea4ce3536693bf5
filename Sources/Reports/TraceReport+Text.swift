// SPDX-License-Identifier: MIT
import HeapImage

extension TraceReport {
    /// What the table of `show trace` looks like.
    package struct TextOptions: Equatable, Sendable {
        /// Show what was ever asked for and given back, and the call site as module+offset.
        package var isCumulative = false
        /// Frames shown of each stack; nil: all.
        package var frameLimit: Int?
        package var isColoured = false

        package init(isCumulative: Bool = false, frameLimit: Int? = nil, isColoured: Bool = false) {
            self.isCumulative = isCumulative
            self.frameLimit = frameLimit
            self.isColoured = isColoured
        }
    }

    package func text(_ options: TextOptions = TextOptions()) -> String {
        Output.text { writeText(to: &$0, options) }
    }

    package func writeText(to output: inout Output, _ options: TextOptions = TextOptions()) {
        output.write(line: "process \(process.title)")
        writeRows(to: &output, options)
        output.write("\n")
        for line in footer { output.write(line: line) }
    }

    // MARK: Rows

    func writeRows(to output: inout Output, _ options: TextOptions) {
        guard !rows.isEmpty else { return }
        output.write("\n")
        let header =
            options.isCumulative
            ? ["Bytes", "Alloc", "Free", "Live", "Module+offset"]
            : ["Bytes", "Usable", "Count", "Sample", "Traceback"]
        let cells = rows.map { self.cells(of: $0, options) }
        let numbers = options.isCumulative ? 4 : 3
        let widths = (0..<numbers).map { column in
            max(cells.map { $0[column].utf8.count }.max() ?? 0, 9)
        }
        let sampleWidth = max(cells.map { $0[3].utf8.count }.max() ?? 0, 6)
        func line(_ cells: [String]) -> String {
            var parts = (0..<numbers).map { Layout.right(cells[$0], widths[$0]) }
            if !options.isCumulative { parts.append(Layout.left(cells[3], sampleWidth)) }
            return (parts + cells[4...]).joined(separator: "  ")
        }
        let (bold, plain) = options.isColoured ? ("\u{1b}[1m", "\u{1b}[0m") : ("", "")
        output.write(line: bold + line(header) + plain)
        let stacks = StackText(places, frameLimit: options.frameLimit)
        for (row, cells) in zip(rows, cells) {
            let text = line(cells)
            output.write(line: bold + String(text.reversed().drop { $0 == " " }.reversed()) + plain)
            stacks.write(row, to: &output)
        }
    }

    private func cells(of row: Row, _ options: TextOptions) -> [String] {
        let counts = row.counts
        if options.isCumulative {
            let site = row.frames.first.map { places[Int($0)].moduleOffset } ?? "-"
            return [counts.liveBytes, counts.allocs, counts.frees, counts.live].map { "\($0)" } + [site]
        }
        return ["\(counts.liveBytes)", "\(counts.liveUsable)", "\(counts.live)"]
            + [row.sample == 0 ? "-" : hex(row.sample), ""]
    }

    // MARK: Footer

    private var footer: [String] {
        guard wasTraced else {
            return ["tracing was never on — `memctl trace on -p \(process.label)` starts it"]
                + usedLines
        }
        var lines: [String] = []
        let stacks = Layout.count(UInt64(rowCount), "stack", "stacks")
        lines.append(rows.count < rowCount ? "\(rows.count) of \(stacks); --all shows all" : stacks)
        lines.append(
            "traced live    \(total.liveBytes) bytes requested, \(total.liveUsable) usable, "
                + Layout.count(total.live, "allocation", "allocations"))
        lines += usedLines
        lines += missingLines
        lines.append(overheadLine)
        return lines
    }

    private var usedLines: [String] {
        guard let used, let untraced else {
            let why = usedUnknown ?? "the heap was not read"
            return ["traced live + untraced live = used: not compared — \(why)"]
        }
        let traced = Used(bytes: total.liveUsable, count: total.live)
        var lines: [String] = []
        if wasTraced {
            lines.append(
                "untraced live  \(untraced.bytes) bytes usable, "
                    + Layout.count(untraced.count, "allocation", "allocations"))
        }
        if traced.bytes > used.bytes || traced.count > used.count {
            lines.append(
                "traced live + untraced live = used: not compared — the process allocates too fast "
                    + "to read both at once; try again")
        } else if wasTraced {
            lines.append("traced live + untraced live = used:")
            lines.append("    \(traced.bytes) + \(untraced.bytes) = \(used.bytes) bytes")
            lines.append("    \(traced.count) + \(untraced.count) = \(used.count) allocations")
        } else {
            lines.append("used           \(used.bytes) bytes, \(used.count) allocations")
        }
        if moved > 0 {
            lines.append("the process made \(moved) allocations and frees while it was read")
        }
        return lines
    }

    var missingLines: [String] {
        var lines: [String] = []
        if missing.overflowStacks > 0 {
            lines.append(
                Layout.count(missing.overflowStacks, "stack", "stacks")
                    + " found the table full: counted in the row without frames")
        }
        if missing.untaggedAllocs > 0 {
            lines.append(
                Layout.count(missing.untaggedAllocs, "allocation", "allocations")
                    + " could not be tagged for want of memory: untraced")
        }
        if missing.cutStacks > 0 {
            lines.append(
                Layout.count(missing.cutStacks, "stack was", "stacks were")
                    + " deeper than the depth kept: outer frames are missing")
        }
        if missing.stoppedStacks > 0 {
            lines.append(
                Layout.count(missing.stoppedStacks, "stack ends", "stacks end")
                    + " at a frame without unwind information")
        }
        return lines.isEmpty ? ["not recorded: nothing"] : ["not recorded:"] + lines.map { "    " + $0 }
    }

    private var overheadLine: String {
        var parts = [
            "region \(Layout.size(overhead.region))",
            "index and tags \(Layout.size(overhead.tracing))",
        ]
        if let heap = overhead.heap { parts.append("heap structures \(Layout.size(heap))") }
        return "our own memory, in no row: " + parts.joined(separator: ", ")
    }
}

/// Writes the frames of one row after the other; the text of a place is made once.
struct StackText {
    private let lines: [[[UInt8]]]
    private let frameLimit: Int?
    private static let indent = "    "
    private static let numberWidth = 4

    init(_ places: [Place], frameLimit: Int?) {
        let prefix = Self.indent.count + Self.numberWidth + 1
        let hanging = String(repeating: " ", count: prefix + 2)
        lines = places.map { place in
            place.lines(width: Layout.width - prefix, indent: hanging).map { Array($0.utf8) }
        }
        self.frameLimit = frameLimit
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
                return output.write(
                    line: Self.indent + "... \(Layout.count(rest, "frame", "frames")) more")
            }
            for index in run.range {
                write(place: row.frames[index], number: index, to: &output)
            }
            shown += run.range.count
            if run.repeats > 1 {
                let many = run.range.count == 1 ? "" : " (\(run.range.count) frames)"
                output.write(line: Self.indent + "... repeated \(run.repeats) times" + many)
            }
        }
        if row.isCut { output.write(line: Self.indent + "... deeper than the depth kept") }
        if row.isStopped { output.write(line: Self.indent + "... no unwind information beyond") }
    }

    private func write(place: Int32, number: Int, to output: inout Output) {
        let prefix = Self.indent + Layout.left("#\(number)", Self.numberWidth) + " "
        for (index, line) in lines[Int(place)].enumerated() {
            // Inlined functions and the one they are in share a frame, and so its number.
            output.write(index == 0 ? prefix : String(repeating: " ", count: prefix.count))
            output.write(line)
            output.write("\n")
        }
    }
}
