// SPDX-License-Identifier: MIT
import HeapImage

/// The heap by size of slot.
package struct ClassesReport: Equatable, Sendable {
    package struct Row: Equatable, Sendable {
        /// Bytes of a slot; 0 for large and huge ones, whose sizes differ.
        package var slotSize: UInt64
        package var kind: HeapWalk.Span.Kind
        package var liveSlots: UInt64 = 0
        package var totalSlots: UInt64 = 0
        package var spans: UInt64 = 0
        /// Of the spans.
        package var bytes: UInt64 = 0
        package var liveBytes: UInt64 = 0
        /// Of the spans: with memory behind it.
        package var populated: UInt64 = 0
        /// Of that: in live slots.
        package var populatedLive: UInt64 = 0
        /// The most free slots beside each other in one span; nil when nobody looked.
        package var largestFreeRun: UInt64?
        /// Since the process started.
        package var requests = SlotRequests.Count()

        package init(
            slotSize: UInt64, kind: HeapWalk.Span.Kind,
            _ requests: SlotRequests.Count = SlotRequests.Count()
        ) {
            self.slotSize = slotSize
            self.kind = kind
            self.requests = requests
        }

        /// Memory that holds no live slot.
        package var fragmentation: Share {
            Share(populated.minus(populatedLive), of: populated)
        }

        /// As it is named: its slot size, "large" or "huge".
        package var label: String {
            switch kind {
            case .slots: "\(slotSize)"
            case .large: "large"
            case .huge: "huge"
            }
        }

        mutating func add(_ span: HeapWalk.Span, _ populated: UInt64, live: UInt64) {
            liveSlots += UInt64(span.live)
            totalSlots += UInt64(span.slotCount)
            spans += 1
            bytes = bytes.plus(span.size)
            liveBytes = liveBytes.plus(span.liveBytes)
            self.populated = self.populated.plus(populated)
            populatedLive = populatedLive.plus(live)
        }

        fileprivate mutating func takeOff(_ slots: UInt64) {
            liveSlots = liveSlots.minus(slots)
            liveBytes = liveBytes.minus(slots.times(slotSize))
            populatedLive = populatedLive.minus(slots.times(slotSize))
        }

        func write(to json: inout JSONWriter) {
            json.object { json in
                json.field("class", kind == .slots ? "slots" : label)
                json.field("slot_size", kind == .slots ? slotSize : nil)
                json.field("live", liveSlots)
                json.field("total", totalSlots)
                json.field("spans", spans)
                json.field("bytes", bytes)
                json.field("live_bytes", liveBytes)
                json.field("populated", populated)
                json.field("fragmentation_percent", percent: fragmentation)
                json.field("largest_free_run", largestFreeRun)
                json.field("allocations", requests.succeeded)
                json.field("failures", requests.failed)
            }
        }
    }

    package var process: ReportedProcess
    /// By slot size; large and huge ones last.
    ///
    /// Also of classes that have no span now, but had.
    package var rows: [Row]

    package init(process: ReportedProcess, rows: [Row]) {
        self.process = process
        self.rows = rows
    }

    /// `freeRun` is asked for the largest run of free slots of each span.
    package init(
        _ process: ReportedProcess, _ reading: MemoryReading,
        freeRun: ((HeapWalk.Span) -> Int?)? = nil
    ) {
        let requests = reading.walk.requests
        var bySize: [UInt64: Row] = [:]
        for size in requests.slotSizes {
            bySize[size] = Row(slotSize: size, kind: .slots, requests[slotSize: size])
        }
        var large = Row(slotSize: 0, kind: .large, requests.large)
        var huge = Row(slotSize: 0, kind: .huge, requests.huge)
        for (index, piece) in reading.space.pieces.enumerated() {
            guard let span = reading.span(of: piece) else { continue }
            let (populated, live) = (reading.populated(index), reading.populatedLive(index))
            switch span.kind {
            case .large: large.add(span, populated, live: live)
            case .huge: huge.add(span, populated, live: live)
            case .slots:
                var row = bySize[span.slotSize] ?? Row(slotSize: span.slotSize, kind: .slots)
                row.add(span, populated, live: live)
                if let freeRun, let run = freeRun(span) {
                    row.largestFreeRun = max(row.largestFreeRun ?? 0, UInt64(run))
                }
                bySize[span.slotSize] = row
            }
        }
        // Spans count slots in threads' caches as live.
        for (size, count) in reading.walk.cachedSlots { bySize[size]?.takeOff(count) }
        self.init(
            process: process,
            rows: bySize.values.sorted { $0.slotSize < $1.slotSize }
                + [large, huge].filter { $0.spans > 0 || $0.requests != SlotRequests.Count() })
    }

    package var total: Row {
        rows.reduce(into: Row(slotSize: 0, kind: .slots)) { total, row in
            total.liveSlots += row.liveSlots
            total.totalSlots += row.totalSlots
            total.spans += row.spans
            total.bytes = total.bytes.plus(row.bytes)
            total.liveBytes = total.liveBytes.plus(row.liveBytes)
            total.populated = total.populated.plus(row.populated)
            total.populatedLive = total.populatedLive.plus(row.populatedLive)
            total.requests.succeeded = total.requests.succeeded.plus(row.requests.succeeded)
            total.requests.failed = total.requests.failed.plus(row.requests.failed)
        }
    }

    package func writeText(to output: inout Output) {
        output.write(line: "process \(process.title)\n")
        let header = [
            "Slot size", "Live", "Total", "Made", "Spans", "Bytes", "Live bytes", "Frag %",
            "Free run",
        ]
        let lines = Layout.fitting(header, rightAligned: Set(0...8)) { size, count in
            func cells(_ row: Row, _ label: String) -> [String] {
                [
                    label, count(row.liveSlots), count(row.totalSlots),
                    count(row.requests.succeeded), count(row.spans), size(row.bytes),
                    size(row.liveBytes), row.fragmentation.percent,
                    row.largestFreeRun.map(count) ?? "-",
                ]
            }
            return rows.filter { $0.spans > 0 }.map { cells($0, $0.label) } + [cells(total, "all")]
        }
        for line in lines { output.write(line: line) }
    }

    package func writeJSON(to output: inout Output) {
        process.writeReport(to: &output) { json in
            json.array("classes") { json in
                for row in rows { row.write(to: &json) }
            }
        }
    }
}
