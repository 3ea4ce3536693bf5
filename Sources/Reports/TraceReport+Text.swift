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
        let numbers = options.isCumulative ? 4 : 3
        var widths = [Int](repeating: 9, count: numbers)
        var largestSample: UInt64 = 0
        for row in rows {
            for (column, number) in numbersOf(row, options).enumerated() {
                widths[column] = max(widths[column], Output.digits(number))
            }
            largestSample = max(largestSample, row.sample)
        }
        let sampleWidth = largestSample == 0 ? 6 : hex(largestSample).utf8.count
        let bold: [UInt8] = options.isColoured ? Array("\u{1b}[1m".utf8) : []
        let plain: [UInt8] = options.isColoured ? Array("\u{1b}[0m".utf8) : []

        output.write(bold)
        for column in 0..<numbers {
            output.write(Layout.right(header[column], widths[column]) + "  ")
        }
        if !options.isCumulative { output.write(Layout.left(header[3], sampleWidth) + "  ") }
        output.write(header[4])
        output.write(plain)
        output.write("\n")

        let stacks = StackText(places, frameLimit: options.frameLimit)
        for row in rows {
            output.write(bold)
            for (column, number) in numbersOf(row, options).enumerated() {
                output.write(number, width: widths[column])
                output.write("  ")
            }
            output.write(options.isCumulative ? site(of: row) : row.sampleText)
            output.write(plain)
            output.write("\n")
            stacks.write(row, to: &output)
        }
    }

    private func numbersOf(_ row: Row, _ options: TextOptions) -> [UInt64] {
        let counts = row.counts
        return options.isCumulative
            ? [counts.liveBytes, counts.allocs, counts.frees, counts.live]
            : [counts.liveBytes, counts.liveUsable, counts.live]
    }

    private func site(of row: Row) -> String {
        row.frames.first.map { places[Int($0)].moduleOffset } ?? "-"
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
        return lines.isEmpty
            ? ["not recorded: nothing"] : ["not recorded:"] + lines.map { "    " + $0 }
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

extension TraceReport.Row {
    fileprivate var sampleText: String { sample == 0 ? "-" : hex(sample) }
}
