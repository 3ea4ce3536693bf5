// SPDX-License-Identifier: MIT
import HeapImage

/// Pages of some addresses, and what could not be told of them.
package struct PageStats: Equatable, Sendable {
    package var pageSize: UInt64
    package var tally: PageTally
    /// Why some are unknown.
    package var unknownReason: String?
    /// Why their nodes are not known.
    package var nodesUnavailable: String?
    /// Whether zero and huge pages are told apart.
    package var tellsKinds: Bool

    package init(
        pageSize: UInt64 = 4096, tally: PageTally = PageTally(), unknownReason: String? = nil,
        nodesUnavailable: String? = nil, tellsKinds: Bool = true
    ) {
        self.pageSize = pageSize
        self.tally = tally
        self.unknownReason = unknownReason
        self.nodesUnavailable = nodesUnavailable
        self.tellsKinds = tellsKinds
    }

    /// Of all owners that `isMeant` takes.
    package init(_ sums: PageSums, of isMeant: (Int) -> Bool = { _ in true }) {
        var tally = PageTally()
        for (owner, part) in sums.tallies.enumerated() where isMeant(owner) { tally.add(part) }
        self.init(
            pageSize: sums.pageSize, tally: tally,
            unknownReason: tally.unknown > 0 ? sums.unknownReason : nil,
            nodesUnavailable: sums.nodesUnavailable
                ?? (tally.unknown == tally.total && tally.total > 0
                    ? "not known which pages are populated" : nil),
            tellsKinds: sums.tellsKinds)
    }

    /// nil when nothing is known of any page.
    package var populatedBytes: UInt64? {
        tally.unknown == tally.total && tally.total > 0
            ? nil : tally.populated.times(pageSize)
    }

    // MARK: Text

    /// `page stats: ...`, in lines of a terminal's width.
    var lines: [String] {
        let size = pageSize % 1024 == 0 ? "\(pageSize / 1024)K" : "\(pageSize)"
        var lines = Layout.folded(
            "page stats:",
            [
                "page-size \(size)", "total \(tally.total)", "populated \(tally.populated)",
                "not-populated \(tally.notPopulated)", "unknown \(tally.unknown)",
            ])
        let kinds = [(tally.swapped, "in swap"), (tally.zero, "the page of zeros")]
        for (pages, kind) in kinds where pages > 0 {
            lines.append("    of the not populated \(pages) \(pages == 1 ? "is" : "are") \(kind)")
        }
        if tally.huge > 0 {
            lines.append("    of the populated \(tally.huge) are in huge pages")
        }
        if tally.unknown > 0, let unknownReason {
            lines += Layout.wrapped("unknown: \(unknownReason)", indent: "    ", hanging: "    ")
        }
        return lines + nodeLines
    }

    private var nodeLines: [String] {
        if let nodesUnavailable { return ["numa: unavailable (\(nodesUnavailable))"] }
        var lines: [String] = []
        for (node, pages) in tally.nodes.enumerated() where pages > 0 || node == 0 {
            lines.append("numa \(node): \(pages) pages, \(pages.times(pageSize)) bytes")
        }
        let placed = tally.nodes.reduce(0, +)
        if placed < tally.populated, !tally.nodes.isEmpty {
            lines.append("numa: \(tally.populated - placed) pages went while they were asked for")
        }
        return lines
    }

    // MARK: JSON

    func write(to json: inout JSONWriter) {
        json.object("pages") { json in
            json.field("page_size", pageSize)
            writeFields(to: &json)
            json.field("unknown_reason", unknownReason)
        }
        json.object("numa") { json in
            json.field("unavailable", nodesUnavailable)
            writeNodes(to: &json)
        }
    }

    func writeFields(to json: inout JSONWriter) {
        json.field("total", tally.total)
        json.field("populated", tally.populated)
        json.field("not_populated", tally.notPopulated)
        json.field("unknown", tally.unknown)
        json.field("swapped", tally.swapped)
        json.field("zero", tellsKinds ? tally.zero : nil)
        json.field("huge", tellsKinds ? tally.huge : nil)
    }

    func writeNodes(to json: inout JSONWriter) {
        json.array("nodes") { json in
            guard nodesUnavailable == nil else { return }
            for (node, pages) in tally.nodes.enumerated() {
                json.object { json in
                    json.field("node", node)
                    json.field("pages", pages)
                    json.field("bytes", pages.times(pageSize))
                }
            }
        }
    }
}
