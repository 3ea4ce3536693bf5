// SPDX-License-Identifier: MIT
import HeapImage
import Symbols

/// What was asked for in a stretch of time and is not yet given back, by backtrace.
package struct LeakReport: Equatable, Sendable {
    package enum Window: Equatable, Sendable {
        /// Of a living process: the time looked at, by the process' own clock.
        case time(nanoseconds: UInt64)
        /// From the first allocation to the end of the process.
        case wholeRun
    }

    package var window: Window
    package var trace: TraceReport

    package init(window: Window, trace: TraceReport) {
        self.window = window
        self.trace = trace
    }

    package var hasLeaks: Bool { trace.total.live > 0 || (trace.sampled?.counts.live ?? 0) > 0 }

    package func writeText(to output: inout Output, _ options: TraceReport.TextOptions) {
        output.write(line: "process \(trace.process.title)")
        trace.writeRows(to: &output, options)
        if !trace.rows.isEmpty { output.write("\n") }
        if trace.shownCount < trace.rowCount {
            output.write(line: "\(trace.shownCount) of \(trace.rowCount) stacks; --all shows all")
        }
        let total = trace.total
        let stacks = Layout.count(UInt64(trace.rowCount), "stack", "stacks")
        switch window {
        case .time(let nanoseconds):
            output.write(
                line: "made in \(Layout.seconds(nanoseconds)) and still live: "
                    + "\(Layout.count(total.live, "allocation", "allocations")), "
                    + "\(total.liveBytes) bytes, \(stacks)")
        case .wholeRun:
            output.write(
                line: "made by the program and never freed: "
                    + "\(Layout.count(total.live, "allocation", "allocations")), "
                    + "\(total.liveBytes) bytes, \(stacks)")
        }
        if let sampled = trace.sampled {
            output.write(
                line: "of what was sampled, likewise: "
                    + "~\(Layout.count(sampled.counts.live, "allocation", "allocations")), "
                    + "~\(sampled.counts.liveBytes) bytes ± \(sampled.estimate.bytesError)")
        }
        for line in trace.missingLines where trace.missing != TraceReport.Missing() {
            output.write(line: line)
        }
    }

    package func write(to json: inout JSONWriter) {
        json.object { json in
            switch window {
            case .time(let nanoseconds): json.field("window_ms", nanoseconds / 1_000_000)
            case .wholeRun: json.field("window_ms", UInt64?.none)
            }
            json.field("leaked_bytes", trace.total.liveBytes)
            json.field("leaked_usable", trace.total.liveUsable)
            json.field("leaked_count", trace.total.live)
            trace.writeFields(to: &json)
        }
    }

    /// All reports as one array.
    package static func writeJSON(_ reports: [LeakReport], to output: inout Output) {
        JSONWriter.write(to: &output) { json in
            json.array { json in
                for report in reports { report.write(to: &json) }
            }
        }
    }
}
