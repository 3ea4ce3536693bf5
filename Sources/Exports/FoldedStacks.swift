// SPDX-License-Identifier: MIT
import HeapImage
import Reports

/// The backtraces of a report as the text that flame graphs are drawn from: flamegraph.pl, inferno,
/// speedscope and others read it.
///
///     main;parse;grow 60000
///
/// A line a stack, outermost function first, then the number the report is ordered by. Offsets and lines
/// are left out, so that calls of one function are one; stacks that are equal then are summed up. Of rows
/// with parts only the whole is there, and no mappings: the sum of the lines is that of the table.
package struct FoldedStacks {
    /// Largest first, then by text.
    private let lines: [(stack: String, value: UInt64)]

    package init(_ report: TraceReport, by order: TraceReport.Order) {
        // A semicolon in a name would be a boundary.
        let names = report.places.map { place in
            place.functions.reversed().map { String($0.map { $0 == ";" ? ":" : $0 }) }
                .joined(separator: ";")
        }
        var sums: [String: UInt64] = [:]
        for row in report.rows where row.partOf == nil && !row.isMapped {
            let value = order.keys(row.counts).first
            guard value > 0 else { continue }
            sums[Self.stack(of: row, names), default: 0] += value
        }
        lines = sums.map { ($0.key, $0.value) }.sorted {
            ($1.value, $0.stack) < ($0.value, $1.stack)
        }
    }

    package func write(to output: inout Output) {
        for line in lines { output.write(line: "\(line.stack) \(line.value)") }
    }

    private static func stack(of row: TraceReport.Row, _ names: [String]) -> String {
        if row.isOverflow { return "(stacks that found the table full)" }
        if row.frames.isEmpty { return "(no frames)" }
        var frames = row.frames.reversed().map { names[Int($0)] }
        // What is further out is not known: such stacks don't begin where the others do.
        if row.isCut { frames.insert("(deeper than the depth kept)", at: 0) }
        if row.isStopped { frames.insert("(no unwind information beyond)", at: 0) }
        return frames.joined(separator: ";")
    }
}
