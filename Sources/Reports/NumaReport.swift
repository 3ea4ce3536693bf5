// SPDX-License-Identifier: MIT
import HeapImage

/// On which NUMA nodes the pages of the heap are.
package struct NumaReport: Equatable, Sendable {
    package enum Order: String, CaseIterable, Sendable {
        case arena
        case sizeClass = "class"
        case thread
    }

    package struct Row: Equatable, Sendable {
        /// "arena 0x7f...", a slot size, "thread 3".
        package var name: String
        package var pages: PageTally
        /// Of an arena: what the kernel was told to do with its pages; nil when not known.
        package var policy: String?
        /// Of a thread: the node it ran on last, and its pages on others.
        package var homeNode: Int?
        package var remotePages: UInt64?

        package init(name: String, pages: PageTally = PageTally(), policy: String? = nil) {
            self.name = name
            self.pages = pages
            self.policy = policy
        }
    }

    package var process: ReportedProcess
    package var order: Order
    package var rows: [Row]
    /// Nodes of the machine.
    package var nodes: [Int]
    package var pageSize: UInt64 = 4096
    package var nodesUnavailable: String?
    package var policiesUnavailable: String?

    package init(process: ReportedProcess, order: Order, rows: [Row], nodes: [Int]) {
        self.process = process
        self.order = order
        self.rows = rows
        self.nodes = nodes
    }

    package init(
        _ process: ReportedProcess, _ reading: MemoryReading, by order: Order,
        _ topology: NodeTopology, threads: ProcessThreads, policies: NodePolicies?
    ) {
        self.init(process: process, order: order, rows: [], nodes: topology.nodes)
        pageSize = reading.sums.pageSize
        nodesUnavailable = reading.sums.nodesUnavailable
        switch order {
        case .arena: rows = Self.arenas(reading, policies, isOneNode: topology.nodes.count == 1)
        case .sizeClass: rows = Self.classes(reading)
        case .thread:
            rows = ThreadsReport(process, reading, threads, topology).rows.map { thread in
                var row = Row(
                    name: thread.number == 0
                        ? "large, huge" : "\(thread.number) \(thread.title)", pages: thread.pages)
                row.homeNode = thread.homeNode
                row.remotePages = thread.remotePages
                return row
            }
        }
    }

    private static func arenas(
        _ reading: MemoryReading, _ policies: NodePolicies?, isOneNode: Bool
    ) -> [Row] {
        let arenas = reading.walk.arenas
        func policy(_ address: UInt64) -> String? {
            isOneNode ? "default" : policies?.policy(at: address)
        }
        var rows = arenas.map { Row(name: hex($0.base), policy: policy($0.base)) }
        // Each span lies in the last arena that begins before it, or in none.
        let order = arenas.indices.sorted { arenas[$0].base < arenas[$1].base }
        var huge: [Row] = []
        var metadata = Row(name: "metadata")
        var next = 0
        for (index, piece) in reading.space.pieces.enumerated() {
            let start = piece.range.lowerBound
            while next < order.count, arenas[order[next]].range.upperBound <= start { next += 1 }
            switch piece.use {
            case .span, .waiting, .free:
                if next < order.count, arenas[order[next]].range.contains(start) {
                    rows[order[next]].pages.add(reading.sums.tallies[index])
                } else {
                    huge.append(
                        Row(
                            name: "huge \(hex(start))", pages: reading.sums.tallies[index],
                            policy: policy(start)))
                }
            case .metadata: metadata.pages.add(reading.sums.tallies[index])
            case .region, .other: break
            }
        }
        return rows + huge + [metadata]
    }

    private static func classes(_ reading: MemoryReading) -> [Row] {
        var bySize: [UInt64: PageTally] = [:]
        var others: [HeapWalk.Span.Kind: PageTally] = [:]
        for (index, piece) in reading.space.pieces.enumerated() {
            guard let span = reading.span(of: piece) else { continue }
            let tally = reading.sums.tallies[index]
            if span.kind == .slots {
                bySize[span.slotSize, default: PageTally()].add(tally)
            } else {
                others[span.kind, default: PageTally()].add(tally)
            }
        }
        return bySize.sorted { $0.key < $1.key }.map { Row(name: "\($0)", pages: $1) }
            + [(HeapWalk.Span.Kind.large, "large"), (.huge, "huge")].compactMap { kind, name in
                others[kind].map { Row(name: name, pages: $0) }
            }
    }

    package var total: PageTally { rows.reduce(into: PageTally()) { $0.add($1.pages) } }

    // MARK: Text

    package func writeText(to output: inout Output) {
        output.write(line: "process \(process.title)\n")
        if let nodesUnavailable {
            output.write(line: "numa: unavailable (\(nodesUnavailable))")
        }
        let count = max(rows.map(\.pages.nodes.count).max() ?? 0, (nodes.last ?? 0) + 1)
        let shown = nodes.filter { $0 < count }
        let extra = order == .arena ? ["Policy"] : order == .thread ? ["Home", "Remote"] : []
        let header = [order.title, "Pages"] + shown.map { "Node \($0)" } + extra
        let cells =
            rows.map { self.cells($0, shown) } + [self.cells(Row(name: "all", pages: total), shown)]
        let lines = Layout.table(
            header, cells, rightAligned: Set(1..<(header.count - (order == .arena ? 1 : 0))))
        if lines.allSatisfy({ $0.count <= Layout.width }) {
            for line in lines { output.write(line: line) }
        } else {
            for cells in cells {
                let parts = zip(header, cells).dropFirst().map { "\($0.0.lowercased()): \($0.1)" }
                for line in Layout.folded("\(cells[0]):", parts) { output.write(line: line) }
            }
        }
        if let policiesUnavailable {
            output.write(line: "policies: not read (\(policiesUnavailable))")
        }
    }

    private func cells(_ row: Row, _ shown: [Int]) -> [String] {
        let nodes = shown.map { node in
            nodesUnavailable != nil
                ? "-" : node < row.pages.nodes.count ? "\(row.pages.nodes[node])" : "0"
        }
        switch order {
        case .arena: return [row.name, "\(row.pages.populated)"] + nodes + [row.policy ?? "-"]
        case .sizeClass: return [row.name, "\(row.pages.populated)"] + nodes
        case .thread:
            return [row.name, "\(row.pages.populated)"] + nodes + [
                row.homeNode.map { "\($0)" } ?? "-", row.remotePages.map { "\($0)" } ?? "-",
            ]
        }
    }

    // MARK: JSON

    package func writeJSON(to output: inout Output) {
        process.writeReport(to: &output) { json in
            json.field("by", order.rawValue)
            json.field("numa_unavailable", nodesUnavailable)
            json.field("policies_unavailable", policiesUnavailable)
            json.objects("rows", rows) { write($1, to: &$0) }
        }
    }

    private func write(_ row: Row, to json: inout JSONWriter) {
        json.field("name", row.name)
        json.field("populated_pages", row.pages.populated)
        json.field("policy", row.policy)
        json.field("home_node", row.homeNode)
        json.field("remote_pages", row.remotePages)
        json.array("nodes") { json in
            guard nodesUnavailable == nil else { return }
            for node in nodes {
                let pages = node < row.pages.nodes.count ? row.pages.nodes[node] : 0
                json.object { json in
                    json.field("node", node)
                    json.field("pages", pages)
                    json.field("bytes", pages.times(pageSize))
                }
            }
        }
    }
}

extension NumaReport.Order {
    fileprivate var title: String {
        switch self {
        case .arena: "Arena"
        case .sizeClass: "Slot size"
        case .thread: "Thread"
        }
    }
}
