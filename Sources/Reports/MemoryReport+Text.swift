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
        for line in pages.lines { output.write(line: line) }
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
                "\(pages.populatedBytes.map { "\($0)" } ?? "-")", "populated",
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

    package func writeJSON(to output: inout Output) {
        JSONWriter.write(to: &output) { json in
            json.object { json in
                process.write(to: &json)
                writeAmounts(to: &json)
                pages.write(to: &json)
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
        json.field("populated", pages.populatedBytes)
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
}
