// SPDX-License-Identifier: MIT
import HeapImage

/// The heap by the thread that owns its spans.
package struct ThreadsReport: Equatable, Sendable {
    package enum State: String, Sendable {
        case live, ended
        /// Ran in the parent of a forked child.
        case lost
        /// Large and huge slots: whoever holds them frees them.
        case none
    }

    package struct Row: Equatable, Sendable {
        /// The heap's: 1, 2, 3, ...; 0 for what no thread owns.
        package var number: UInt32
        package var state: State
        /// The kernel's number here of the thread that lives; nil once it ended.
        package var tid: Int32?
        package var name: String
        package var spans: UInt64 = 0
        package var bytes: UInt64 = 0
        package var used: UInt64 = 0
        package var usedCount: UInt64 = 0
        /// In its spans, and not in live slots.
        package var cached: UInt64 = 0
        /// Of that: freed by other threads, and not yet taken back.
        package var remoteSlots: UInt64 = 0
        package var remoteBytes: UInt64 = 0
        /// The pages of its spans.
        package var pages = PageTally()
        /// The node it ran on last.
        package var homeNode: Int?

        package init(number: UInt32, state: State, tid: Int32? = nil, name: String = "") {
            self.number = number
            self.state = state
            self.tid = tid
            self.name = name
        }

        /// Pages that are on another node than the thread's; nil when one of them is not known.
        package var remotePages: UInt64? {
            guard let homeNode, !pages.nodes.isEmpty || pages.populated == 0 else { return nil }
            return pages.nodes.enumerated().reduce(0) {
                $0 + ($1.offset == homeNode ? 0 : $1.element)
            }
        }
    }

    package var process: ReportedProcess
    /// By number; what no thread owns last.
    package var rows: [Row]
    package var pageSize: UInt64 = 4096
    package var nodesUnavailable: String?
    /// Of what the rows use: slots that threads freed, and keep for their next requests of the size.
    package var inCaches: UInt64 = 0

    package init(process: ReportedProcess, rows: [Row]) {
        self.process = process
        self.rows = rows
    }

    package init(
        _ process: ReportedProcess, _ reading: MemoryReading, _ threads: ProcessThreads,
        _ topology: NodeTopology
    ) {
        let byTid = Dictionary(threads.threads.map { ($0.innerTid, $0) }) { first, _ in first }
        var rows: [Row] = []
        var rowOfOwner: [UInt64: Int] = [:]
        for thread in reading.walk.threads.sorted(by: { $0.number < $1.number }) {
            // One that ended counts as live until the heap notices.
            let kernels = thread.isLive ? byTid[Int32(bitPattern: thread.tid)] : nil
            let state: State = thread.isLost ? .lost : kernels == nil ? .ended : .live
            var row = Row(
                number: thread.number, state: state, tid: kernels?.tid, name: kernels?.name ?? "")
            row.homeNode = kernels?.processor.flatMap { topology.node(ofProcessor: $0) }
            rowOfOwner[thread.address] = rows.count
            rows.append(row)
        }
        var others = Row(number: 0, state: .none)
        for (index, piece) in reading.space.pieces.enumerated() {
            guard let span = reading.span(of: piece) else { continue }
            if let row = rowOfOwner[span.owner] {
                rows[row].add(span, reading.sums.tallies[index])
            } else {
                others.add(span, reading.sums.tallies[index])
            }
        }
        if others.spans > 0 { rows.append(others) }
        self.init(process: process, rows: rows)
        pageSize = reading.sums.pageSize
        nodesUnavailable = reading.sums.nodesUnavailable
        inCaches = reading.walk.cachedBytes
    }

    // MARK: Text

    package func writeText(to output: inout Output) {
        output.write(line: "process \(process.title)\n")
        let header = [
            "No", "TID", "Name", "Spans", "Used", "Cached", "Remote", "Pages", "Home",
        ]
        let lines = Layout.fitting(header, rightAligned: [0, 1, 3, 4, 5, 6, 7, 8]) { size in
            rows.map { row in
                [
                    row.number == 0 ? "-" : "\(row.number)", row.tid.map { "\($0)" } ?? "-",
                    row.title, "\(row.spans)", size(row.used), size(row.cached),
                    size(row.remoteBytes), "\(row.pages.populated)",
                    row.homeNode.map { "\($0)" } ?? "-",
                ]
            }
        }
        for line in lines { output.write(line: line) }
        output.write("\n")
        if inCaches > 0 {
            output.write(
                line: "of the used \(inCaches) bytes are free, kept by threads that freed them")
        }
        if let nodesUnavailable {
            return output.write(line: "numa: unavailable (\(nodesUnavailable))")
        }
        for line in nodeLines { output.write(line: line) }
    }

    /// Pages by node, where there is more than one.
    private var nodeLines: [String] {
        let nodes = rows.map(\.pages.nodes.count).max() ?? 0
        guard nodes > 1 else { return ["numa: one node"] }
        return rows.flatMap { row in
            let counts = row.pages.nodes.enumerated().map { "numa \($0): \($1)" }
            let remote = row.remotePages.map { ["remote \($0) pages"] } ?? []
            let name = row.number == 0 ? "no thread" : "thread \(row.number)"
            return Layout.folded("\(name):", counts + remote)
        }
    }

    // MARK: JSON

    package func writeJSON(to output: inout Output) {
        process.writeReport(to: &output) { json in
            json.field("numa_unavailable", nodesUnavailable)
            json.field("in_caches", inCaches)
            json.objects("threads", rows) { $1.write(to: &$0, pageSize: pageSize) }
        }
    }
}

extension ThreadsReport.Row {
    fileprivate mutating func add(_ span: HeapWalk.Span, _ tally: PageTally) {
        spans += 1
        bytes = bytes.plus(span.size)
        used = used.plus(span.liveBytes)
        usedCount += UInt64(span.live)
        cached = cached.plus(span.size.minus(span.liveBytes))
        remoteSlots += UInt64(span.remote)
        remoteBytes = remoteBytes.plus(UInt64(span.remote).times(span.slotSize))
        pages.add(tally)
    }

    var title: String {
        switch state {
        case .live: Layout.safe(name)
        case .ended: "(ended)"
        case .lost: "(of the parent)"
        case .none: "(large, huge)"
        }
    }

    fileprivate func write(to json: inout JSONWriter, pageSize: UInt64) {
        json.field("number", number == 0 ? nil : UInt64(number))
        json.field("state", state.rawValue)
        json.field("tid", tid.map { Int($0) })
        json.field("name", state == .live ? name : nil)
        json.field("spans", spans)
        json.field("bytes", bytes)
        json.field("used", used)
        json.field("used_count", usedCount)
        json.field("cached", cached)
        json.field("remote_slots", remoteSlots)
        json.field("remote_bytes", remoteBytes)
        json.field("populated_pages", pages.populated)
        json.field("home_node", homeNode)
        json.field("remote_pages", remotePages)
        json.objects("nodes", pages.nodes.enumerated()) { json, node in
            json.field("node", node.offset)
            json.field("pages", node.element)
            json.field("bytes", node.element.times(pageSize))
        }
    }
}
