// SPDX-License-Identifier: MIT
import HeapImage

extension MapReport {
    package func writeText(to output: inout Output) {
        output.write(line: "process \(process.title)\n")
        let header = [
            "Start", "Size", "Page", "Pages", "Absent", "Huge", "Swap", "Zero", "Free %", "What",
        ]
        let cells = rows.map { row in self.cells(row) }
        let total = self.cells(
            Row(range: 0..<rows.reduce(0) { $0.plus($1.size) }, kind: .arena, pages: total),
            isTotal: true)
        let lines = Layout.table(header, cells + [total], rightAligned: Set(1...8))
        let hasNodes = rows.contains { $0.pages.nodes.count > 1 }
        for (index, line) in lines.enumerated() {
            output.write(line: Self.cut(line))
            guard hasNodes, index > 0, index <= rows.count else { continue }
            let nodes = rows[index - 1].pages.nodes.enumerated().filter { $0.element > 0 }
            for line in Layout.folded(
                "    ", nodes.map { "numa \($0.offset): \($0.element)" })
            where !nodes.isEmpty {
                output.write(line: line)
            }
        }
        for line in footer { output.write(line: line) }
    }

    private func cells(_ row: Row, isTotal: Bool = false) -> [String] {
        let free = Share(row.freeInside ?? 0, of: row.pages.populated.times(pageSize))
        let name =
            row.name.isEmpty
            ? row.kind.rawValue
            : Layout.safe(row.name.hasPrefix("[") ? row.name : Self.last(row.name))
        return [
            isTotal ? "all" : String(row.range.lowerBound, radix: 16),
            Layout.brief(row.size), isTotal ? "" : Layout.brief(row.pageSize),
            "\(row.pages.populated)",
            "\(row.pages.notPopulated.plus(row.pages.unknown))",
            tellsKinds ? "\(row.pages.huge)" : "-", "\(row.pages.swapped)",
            tellsKinds ? "\(row.pages.zero)" : "-",
            row.freeInside == nil ? "" : free.percent, isTotal ? "" : name,
        ]
    }

    private static func last(_ path: String) -> String {
        path.split(separator: "/").last.map(String.init) ?? path
    }

    /// The name is what gives way.
    private static func cut(_ line: String) -> String {
        line.count <= Layout.width ? line : line.prefix(Layout.width - 1) + "…"
    }

    private var footer: [String] {
        var lines: [String] = []
        if let unknownReason {
            lines += Layout.wrapped("unknown pages: \(unknownReason)", hanging: "    ")
        }
        if let nodesUnavailable { lines.append("numa: unavailable (\(nodesUnavailable))") }
        guard isWhole else { return lines }
        lines.append("sum of the rows: \(populated) bytes")
        if let size, let remainder {
            lines.append("RSS: \(size.resident), remainder \(remainder)")
        }
        return lines
    }

    package func writeJSON(to output: inout Output) {
        process.writeReport(to: &output) { json in
            json.field("page_size", pageSize)
            json.field("whole", isWhole)
            json.field("populated", populated)
            json.field("rss", size?.resident)
            json.field("remainder", signed: remainder)
            json.field("unknown_reason", unknownReason)
            json.field("numa_unavailable", nodesUnavailable)
            json.objects("mappings", rows) { write($1, to: &$0) }
        }
    }

    private func write(_ row: Row, to json: inout JSONWriter) {
        json.field("start", hex(row.range.lowerBound))
        json.field("end", hex(row.range.upperBound))
        json.field("size", row.size)
        json.field("kind", row.kind.rawValue)
        json.field("name", row.name.isEmpty ? nil : row.name)
        json.field("page_size", row.pageSize)
        let stats = PageStats(
            pageSize: pageSize, tally: row.pages, nodesUnavailable: nodesUnavailable,
            tellsKinds: tellsKinds)
        stats.writeFields(to: &json)
        stats.writeNodes(to: &json)
        json.field("free_inside", row.freeInside)
    }
}
