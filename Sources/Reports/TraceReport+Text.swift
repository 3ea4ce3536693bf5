// SPDX-License-Identifier: MIT
import HeapImage

extension TraceReport {
    /// What the table of `show trace` looks like.
    package struct TextOptions: Equatable, Sendable {
        package var columns = TraceColumns.live
        /// Frames shown of each stack; nil: all.
        package var frameLimit: Int?
        package var isColoured = false
        /// Each row begins with the number that `trace deepen` knows it by.
        package var showsIDs = false

        package init(
            columns: TraceColumns = .live, frameLimit: Int? = nil, isColoured: Bool = false,
            showsIDs: Bool = false
        ) {
            self.columns = columns
            self.frameLimit = frameLimit
            self.isColoured = isColoured
            self.showsIDs = showsIDs
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
        let heap = rows.filter { !$0.isMapped }
        let maps = rows.filter(\.isMapped)
        write(heap, to: &output, options)
        if !maps.isEmpty { output.write("\nmappings\n") }
        write(maps, to: &output, options)
    }

    private func write(_ rows: [Row], to output: inout Output, _ options: TextOptions) {
        guard !rows.isEmpty else { return }
        output.write("\n")
        let columns = options.columns
        let header = (options.showsIDs ? ["ID"] : []) + columns.header
        func cells(_ row: Row) -> [TraceCell] {
            (options.showsIDs ? [.number(UInt64(row.stack))] : []) + columns.cells(row)
        }
        var widths = header.map { max(Self.leastWidth, $0.utf8.count) }
        if options.showsIDs { widths[0] = Self.idWidth }
        if columns != .live && columns != .cumulative {
            // Six columns fit the width of a terminal only if the narrow ones are.
            for (index, name) in header.enumerated() where name == "Share" { widths[index] = 5 }
        }
        var largestSample: UInt64 = 0
        for row in rows {
            for (column, cell) in cells(row).enumerated() {
                widths[column] = max(widths[column], cell.width)
            }
            largestSample = max(largestSample, row.sample)
        }
        let sampleWidth = largestSample == 0 ? 6 : hex(largestSample).utf8.count
        let bold: [UInt8] = options.isColoured ? Array("\u{1b}[1m".utf8) : []
        let plain: [UInt8] = options.isColoured ? Array("\u{1b}[0m".utf8) : []

        output.write(bold)
        for (name, width) in zip(header, widths) {
            output.write(Layout.right(name, width) + "  ")
        }
        output.write(
            columns == .live
                ? Layout.left(columns.lastHeader, sampleWidth) + "  Traceback" : columns.lastHeader)
        output.write(plain)
        output.write("\n")

        let stacks = StackText(places, frameLimit: options.frameLimit)
        for row in rows {
            output.write(bold)
            var between = ""
            for (cell, width) in zip(cells(row), widths) {
                output.write(between)
                cell.write(to: &output, width: width)
                between = "  "
            }
            let remark = row.remark
            var last = self.last(of: row, columns)
            if columns == .live, !remark.isEmpty { last = Layout.left(last, sampleWidth) }
            for text in [last, remark] where !text.isEmpty {
                output.write("  " + text)
            }
            output.write(plain)
            output.write("\n")
            stacks.write(row, to: &output)
        }
    }

    private static let leastWidth = 9
    private static let idWidth = 5

    private func last(of row: Row, _ columns: TraceColumns) -> String {
        switch columns {
        case .live: row.sampleText
        case .cumulative: row.frames.first.map { places[Int($0)].moduleOffset } ?? "-"
        case .lifetimes, .waste: ""
        }
    }

    // MARK: Footer

    private var footer: [String] {
        guard wasTraced else {
            return ["tracing was never on — `memctl trace on -p \(process.label)` starts it"]
                + usedLines
        }
        var lines: [String] = []
        let stacks = Layout.count(UInt64(rowCount), "stack", "stacks")
        lines.append(
            shownCount < rowCount ? "\(shownCount) of \(stacks); --all shows all" : stacks)
        if let filter {
            lines.append("live, \(filter): \(sums(total))")
            if let sampled { lines += sampledLines(sampled) }
            return lines + missingLines
        }
        if sampled == nil || total != StackCounts() {
            lines.append("traced live    \(sums(total))")
        }
        if let sampled { lines += sampledLines(sampled) }
        lines += usedLines
        if mapped != StackCounts() {
            lines.append(
                "mapped live    \(mapped.liveBytes) bytes, "
                    + Layout.count(mapped.live, "mapping", "mappings")
                    + " (address space, beside the heap)")
        }
        lines += missingLines
        lines.append(overheadLine)
        lines += divisionLines
        return lines
    }

    /// Rows that are shown, without parts.
    var shownCount: Int { rows.reduce(0) { $0 + ($1.partOf == nil ? 1 : 0) } }

    private func sums(_ total: StackCounts) -> String {
        "\(total.liveBytes) bytes requested, \(total.liveUsable) usable, "
            + Layout.count(total.live, "allocation", "allocations")
    }

    private func sampledLines(_ sampled: Sampled) -> [String] {
        let (counts, sure) = (sampled.counts, sampled.estimate)
        let live = sure.taken.minus(sure.freed)
        return [
            "sampled live   ~\(counts.liveBytes) bytes requested, ~\(counts.liveUsable) usable, "
                + "~\(Layout.count(counts.live, "allocation", "allocations"))",
            "    ± \(sure.bytesError) bytes, ± \(sure.countError) allocations (standard error); "
                + Layout.count(live, "sample", "samples"),
        ]
    }

    private var divisionLines: [String] {
        var parts: [String] = []
        if let bytes = overhead.bytesPerStack {
            let frames = overhead.frameBytesPerStack.map { " (\($0) of them frames)" } ?? ""
            parts.append("\(bytes) bytes a stack\(frames)")
        }
        if let tenths = overhead.bytesPerTenObjects {
            parts.append("\(tenths / 10).\(tenths % 10) bytes a live traced object")
        }
        return parts.isEmpty ? [] : ["trace memory: " + parts.joined(separator: ", ")]
    }

    private var usedLines: [String] {
        if let used, sampled != nil {
            return ["used           \(used.bytes) bytes usable, \(used.count) allocations"]
        }
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
        let kinds = [
            (
                missing.overflowStacks, "stack", "stacks",
                " found the table full: counted in the row without frames"
            ),
            (
                missing.untaggedAllocs, "allocation", "allocations",
                " could not be tagged for want of memory: untraced"
            ),
            (
                missing.misplacedFrees, "free", "frees",
                " found no room in its row: counted in the row without frames"
            ),
            (
                missing.missedMaps, "mapping", "mappings",
                " could not be kept account of: untraced"
            ),
            (
                missing.cutStacks, "stack was", "stacks were",
                " deeper than the depth kept: outer frames are missing"
            ),
            (
                missing.stoppedStacks, "stack ends", "stacks end",
                " at a frame without unwind information"
            ),
        ]
        let lines = kinds.filter { $0.0 > 0 }.map { Layout.count($0, $1, $2) + $3 }
        return lines.isEmpty
            ? ["not recorded: nothing"] : ["not recorded:"] + lines.map { "    " + $0 }
    }

    private var overheadLine: String {
        let heap = overhead.heap.map { ", heap \(Layout.size($0))" } ?? ""
        let trails = overhead.trails > 0 ? ", trails \(Layout.size(overhead.trails))" : ""
        return "our own memory: region \(Layout.size(overhead.region)), "
            + "index \(Layout.size(overhead.tracing.minus(overhead.trails)))" + trails + heap
    }
}

extension TraceReport.Row {
    fileprivate var sampleText: String { sample == 0 ? "-" : hex(sample) }

    /// What there is to say of the row beside its numbers.
    fileprivate var remark: String {
        var parts: [String] = []
        if let partOf { parts.append("part of \(partOf)") }
        if isDeepened { parts.append("deepened") }
        if let estimate {
            parts.append("± \(estimate.bytesError) bytes, ± \(estimate.countError)")
        }
        return parts.joined(separator: "; ")
    }
}
