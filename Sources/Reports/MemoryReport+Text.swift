// SPDX-License-Identifier: MIT
import HeapImage

extension MemoryReport {
    package var text: String { Output.text { writeText(to: &$0) } }
    package var json: String { Output.text { writeJSON(to: &$0) } }

    package func writeText(to output: inout Output) {
        output.write(line: "process \(process.title)\n")
        for line in Layout.table(["Bytes", "", ""], amounts, rightAligned: [0]) {
            output.write(line: line)
        }
        output.write("\n")
        writePages(to: &output)
        output.write("\n")
        let cells = classes.map { row in
            [
                row.label, "\(row.liveSlots)", "\(row.totalSlots)", "\(row.spans)", "\(row.bytes)",
                "\(row.liveBytes)",
            ]
        }
        let header = ["Slot size", "Live", "Total", "Spans", "Bytes", "Live bytes"]
        for line in Layout.table(header, cells, rightAligned: Set(0...5)) {
            output.write(line: line)
        }
        if unsettled > 0 {
            output.write(
                line: "\(unsettled) spans changed all the while: they are shown as last read")
        }
    }

    private var amounts: [[String]] {
        let slack =
            tracedSlack.map { "\($0)" } ?? "-"
        let slackNote =
            tracedSlack == nil
            ? "not known: nothing is traced"
            : untraced > 0 ? "of traced slots; not known of \(untraced) untraced bytes" : ""
        return [
            [
                "\(reserved)", "reserved",
                "address space for slots, \(Layout.count(UInt64(arenas), "arena", "arenas"))",
            ],
            [
                "\(populatedBytes.map { "\($0)" } ?? "-")", "populated",
                "pages with memory behind them",
            ],
            ["\(used)", "used", Layout.count(usedCount, "live slot", "live slots")],
            [slack, "slack", slackNote],
            [
                "\(cached)", "cached",
                "free slots in the spans of \(Layout.count(UInt64(threads), "thread", "threads"))",
            ],
            ["\(kept)", "kept", "of these in empty spans"],
            ["\(free)", "free", "slices of no span"],
            ["\(purgeable)", "purgeable", "of these not yet given back"],
            ["\(purged)", "purged", "given back so far"],
            ["\(metadata)", "metadata", "the heap's own, \(tags) of them tags"],
            ["\(tracing.plus(region))", "tracing", "index and region file"],
        ]
    }

    var populatedBytes: UInt64? {
        pages.unknown == pages.total && pages.total > 0
            ? nil : pages.populated.times(pages.pageSize)
    }

    private func writePages(to output: inout Output) {
        let size = pages.pageSize % 1024 == 0 ? "\(pages.pageSize / 1024)K" : "\(pages.pageSize)"
        output.write(
            line: "page stats: page-size \(size), total \(pages.total), populated "
                + "\(pages.populated), not-populated \(pages.notPopulated), unknown \(pages.unknown)"
        )
        if pages.swapped > 0 {
            output.write(line: "    of the not populated \(pages.swapped) are in swap")
        }
        if pages.unknown > 0, let reason = pages.unknownReason {
            output.write(line: "    unknown: \(reason)")
        }
        if let why = pages.nodesUnavailable {
            output.write(line: "numa: unavailable (\(why))")
        }
        for (node, count) in pages.nodes.sorted(by: { $0.key < $1.key }) {
            output.write(
                line: "numa \(node): \(count) pages, \(count.times(pages.pageSize)) bytes")
        }
    }

    package func writeJSON(to output: inout Output) {
        JSONWriter.write(to: &output) { json in
            json.object { json in
                process.write(to: &json)
                writeAmounts(to: &json)
                writePages(to: &json)
                json.array("classes") { json in
                    for row in classes {
                        json.object { json in
                            json.field("class", row.kind == .slots ? "slots" : row.label)
                            json.field("slot_size", row.kind == .slots ? row.slotSize : nil)
                            json.field("live", row.liveSlots)
                            json.field("total", row.totalSlots)
                            json.field("spans", row.spans)
                            json.field("bytes", row.bytes)
                            json.field("live_bytes", row.liveBytes)
                        }
                    }
                }
                json.field("unsettled", unsettled)
            }
        }
    }

    private func writeAmounts(to json: inout JSONWriter) {
        json.field("reserved", reserved)
        json.field("populated", populatedBytes)
        json.field("used", used)
        json.field("used_count", usedCount)
        json.field("traced_slack", tracedSlack)
        json.field("untraced", untraced)
        json.field("cached", cached)
        json.field("kept", kept)
        json.field("free", free)
        json.field("purgeable", purgeable)
        json.field("purged", purged)
        json.field("metadata", metadata)
        json.field("tags", tags)
        json.field("tracing", tracing)
        json.field("region", region)
        json.field("arenas", arenas)
        json.field("threads", threads)
    }

    private func writePages(to json: inout JSONWriter) {
        json.object("pages") { json in
            json.field("page_size", pages.pageSize)
            json.field("total", pages.total)
            json.field("populated", pages.populated)
            json.field("not_populated", pages.notPopulated)
            json.field("unknown", pages.unknown)
            json.field("unknown_reason", pages.unknown > 0 ? pages.unknownReason : nil)
            json.field("swapped", pages.swapped)
        }
        json.object("numa") { json in
            json.field("unavailable", pages.nodesUnavailable)
            json.array("nodes") { json in
                for (node, count) in pages.nodes.sorted(by: { $0.key < $1.key }) {
                    json.object { json in
                        json.field("node", node)
                        json.field("pages", count)
                        json.field("bytes", count.times(pages.pageSize))
                    }
                }
            }
        }
    }
}
