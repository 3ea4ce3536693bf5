// SPDX-License-Identifier: MIT
import HeapImage

/// What sizes the program asks for, and what its slots waste on them.
///
/// Requests are known of traced slots; of others only the slot.
package struct SizesReport: Equatable, Sendable {
    package struct Row: Equatable, Sendable {
        /// 0 for large and huge slots.
        package var slotSize: UInt64
        package var live: UInt64 = 0
        package var liveBytes: UInt64 = 0
        package var traced: UInt64 = 0
        package var tracedBytes: UInt64 = 0
        package var requested: UInt64 = 0
        /// Of the traced: the smallest and the largest request.
        package var smallest: UInt64 = .max
        package var largest: UInt64 = 0

        package init(slotSize: UInt64) {
            self.slotSize = slotSize
        }

        package var slack: UInt64 { tracedBytes.minus(requested) }
        package var slackShare: Share { Share(slack, of: tracedBytes) }
        package var mean: UInt64? { traced == 0 ? nil : requested / traced }

        mutating func add(_ slot: TaggedSlot) {
            traced += 1
            tracedBytes = tracedBytes.plus(slot.usable)
            requested = requested.plus(slot.requested)
            smallest = min(smallest, slot.requested)
            largest = max(largest, slot.requested)
        }
    }

    package var process: ReportedProcess
    /// By slot size; large and huge ones last.
    package var rows: [Row]

    package init(process: ReportedProcess, rows: [Row]) {
        self.process = process
        self.rows = rows
    }

    package init(
        _ process: ReportedProcess, _ walk: HeapWalk, _ memory: some MemorySource
    ) throws(HeapImageError) {
        var bySize: [UInt64: Row] = [:]
        for span in walk.spans where span.live > 0 {
            let size = span.kind == .slots ? span.slotSize : 0
            var row = bySize[size] ?? Row(slotSize: size)
            row.live += UInt64(span.live)
            row.liveBytes = row.liveBytes.plus(span.liveBytes)
            bySize[size] = row
        }
        // Spans count slots in threads' caches as live.
        for (size, count) in walk.cachedSlots {
            guard var row = bySize[size] else { continue }
            row.live = row.live.minus(count)
            row.liveBytes = row.liveBytes.minus(count.times(size))
            bySize[size] = row
        }
        let wholes = Set(walk.spans.lazy.filter { $0.kind != .slots }.map(\.base))
        try walk.forEachTagged(memory) { slot in
            let size = wholes.contains(slot.address) ? 0 : slot.usable
            bySize[size, default: Row(slotSize: size)].add(slot)
            return true
        }
        self.init(
            process: process,
            rows: bySize.values.sorted { ($0.slotSize &- 1) < ($1.slotSize &- 1) })
    }

    package var total: Row {
        rows.reduce(into: Row(slotSize: 0)) { total, row in
            total.live += row.live
            total.liveBytes = total.liveBytes.plus(row.liveBytes)
            total.traced += row.traced
            total.tracedBytes = total.tracedBytes.plus(row.tracedBytes)
            total.requested = total.requested.plus(row.requested)
            total.smallest = min(total.smallest, row.smallest)
            total.largest = max(total.largest, row.largest)
        }
    }

    // MARK: Text

    private static let barWidth: UInt64 = 20

    package func writeText(to output: inout Output) {
        output.write(line: "process \(process.title)\n")
        let largest = rows.map(\.live).max() ?? 0
        let header = [
            "Slot size", "Live", "Traced", "Requests", "Mean", "Slack %", "Share of live",
        ]
        let lines = Layout.fitting(header, rightAligned: Set(0...5)) { size in
            func cells(_ row: Row, _ label: String, _ bar: String) -> [String] {
                let requests =
                    row.traced == 0 ? "-" : "\(size(row.smallest))..\(size(row.largest))"
                return [
                    label, "\(row.live)", "\(row.traced)", requests, row.mean.map(size) ?? "-",
                    row.slackShare.percent, bar,
                ]
            }
            let body = rows.map { row in
                let length =
                    largest == 0 ? 0 : (row.live.times(Self.barWidth) + largest - 1) / largest
                return cells(row, row.label, String(repeating: "@", count: Int(length)))
            }
            return body + [cells(total, "all", "")]
        }
        for line in lines { output.write(line: line) }
        if total.traced < total.live {
            output.write(
                line: "\nrequests are known of traced slots only: "
                    + "\(total.traced) of \(total.live)")
        }
    }

    // MARK: JSON

    package func writeJSON(to output: inout Output) {
        process.writeReport(to: &output) { json in
            json.objects("sizes", rows) { json, row in
                json.field("slot_size", row.slotSize == 0 ? nil : row.slotSize)
                json.field("live", row.live)
                json.field("live_bytes", row.liveBytes)
                json.field("traced", row.traced)
                json.field("requested_bytes", row.requested)
                json.field("requested_min", row.traced == 0 ? nil : row.smallest)
                json.field("requested_max", row.traced == 0 ? nil : row.largest)
                json.field("slack_bytes", row.slack)
                json.field("slack_percent", percent: row.slackShare)
            }
        }
    }
}

extension SizesReport.Row {
    package var label: String { slotSize == 0 ? "large" : "\(slotSize)" }
}
