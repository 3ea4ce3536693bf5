// SPDX-License-Identifier: MIT
import HeapImage

extension MemoryReport {
    package var text: String { Output.text { writeText(to: &$0) } }
    package var json: String { Output.text { writeJSON(to: &$0) } }

    package func writeText(to output: inout Output) {
        output.write(line: "process \(process.title)\n")
        let header = ["", "Bytes", "Populated", ""]
        for line in Layout.table(header, amounts, rightAligned: [1, 2]) {
            output.write(line: line)
        }
        output.write("\n")
        for line in equation + [""] + pages.lines { output.write(line: line) }
        if unsettled > 0 {
            output.write(
                line: "\(unsettled) spans changed all the while: they are shown as last read")
        }
    }

    private var amounts: [[String]] {
        let isKnown = pages.populatedBytes != nil
        func row(_ name: String, _ amount: Amount, _ note: String) -> [String] {
            [name, "\(amount.bytes)", isKnown ? "\(amount.populated)" : "-", note]
        }
        func part(_ name: String, _ bytes: UInt64?, _ note: String) -> [String] {
            ["  " + name, bytes.map { "\($0)" } ?? "-", "", note]
        }
        let slack =
            tracedSlack == nil
            ? "not known: nothing is traced"
            : untraced > 0 ? "of traced; \(untraced) untraced" : "slots minus requests"
        var rows = [
            row(
                "reserved", reserved,
                "for slots, \(Layout.count(UInt64(arenas), "arena", "arenas"))"),
            row("used", used, Layout.count(usedCount, "live slot", "live slots")),
            part("slack", tracedSlack, slack),
            row(
                "cached", cached,
                "in spans of \(Layout.count(UInt64(threads), "thread", "threads")), not live"),
            part("kept", kept, "in empty spans"),
            row("free", free, "slices of no span"),
            part("purgeable", purgeable, "not yet given back"),
            part("purged", purged, "given back so far"),
            row("metadata", metadata, "our own structures"),
            part("tags", tags, "words of slots in traced spans"),
            part("tracing", tracing, "its index, and trails of threads"),
            row("region", region, "the file shared with memctl"),
            row("not malloc", notMalloc, ""),
        ]
        for other in Other.allCases {
            guard let amount = others[other] else { continue }
            rows.append(row("  " + other.rawValue, amount, other.note))
        }
        if let size {
            rows.append(["RSS", "", "\(size.resident)", "what the kernel counts"])
            rows.append(["  peak", "", "\(size.peak)", "of the process (VmHWM)"])
            if size.swapped > 0 {
                rows.append(["  swap", "", "\(size.swapped)", "beside it (VmSwap)"])
            }
        }
        if hugetlb > 0 { rows.append(["hugetlb", "", "\(hugetlb)", "no part of RSS"]) }
        return rows
    }

    /// That the rows are all there is.
    private var equation: [String] {
        guard pages.populatedBytes != nil else {
            return ["sum of the populated: not known"]
        }
        let slack = min(tracedSlack ?? 0, used.populated)
        let numbers = [
            used.populated - slack, slack, cached.populated, free.populated, metadata.populated,
            region.populated, notMalloc.populated,
        ]
        var lines = ["used + slack + cached + free + metadata + region + not malloc = RSS:"]
        lines += Layout.folded(
            "    ", numbers.map { "\($0)" } + ["= \(populatedSum)"], separator: " +"
        ).map { $0.replacing(" + =", with: " =") }
        guard let size, let remainder else { return lines + ["    RSS is not known"] }
        lines.append("    RSS \(size.resident), remainder \(remainder)")
        if !pages.tellsKinds {
            lines.append("    pages that only read as zero may be among the populated")
        }
        return lines
    }

    // MARK: JSON

    package func writeJSON(to output: inout Output) {
        process.writeReport(to: &output) { json in
            writeAmounts(to: &json)
            writePopulated(to: &json)
            pages.write(to: &json)
            json.array("classes") { json in
                for row in classes { row.write(to: &json) }
            }
            json.field("unsettled", unsettled)
        }
    }

    private func writeAmounts(to json: inout JSONWriter) {
        json.field("reserved", reserved.bytes)
        json.field("populated", pages.populatedBytes)
        json.field("used", used.bytes)
        json.field("used_count", usedCount)
        json.field("traced_slack", tracedSlack)
        json.field("untraced", untraced)
        json.field("cached", cached.bytes)
        json.field("kept", kept)
        json.field("free", free.bytes)
        json.field("purgeable", purgeable)
        json.field("purged", purged)
        json.field("metadata", metadata.bytes)
        json.field("tags", tags)
        json.field("tracing", tracing)
        json.field("region", region.bytes)
        json.field("arenas", arenas)
        json.field("threads", threads)
    }

    private func writePopulated(to json: inout JSONWriter) {
        json.object("resident") { json in
            json.field("used", used.populated)
            json.field("cached", cached.populated)
            json.field("free", free.populated)
            json.field("metadata", metadata.populated)
            json.field("region", region.populated)
            json.field("not_malloc", notMalloc.populated)
            for other in Other.allCases {
                json.field(other.rawValue, others[other]?.populated ?? 0)
            }
            json.field("sum", populatedSum)
            json.field("rss", size?.resident)
            json.field("remainder", signed: remainder)
            json.field("peak", size?.peak)
            json.field("swap", size?.swapped)
            json.field("hugetlb", hugetlb)
        }
    }
}
