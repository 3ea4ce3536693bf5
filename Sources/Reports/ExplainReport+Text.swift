// SPDX-License-Identifier: MIT
import HeapImage

extension ExplainReport {
    package var text: String { Output.text { writeText(to: &$0) } }
    package var json: String { Output.text { writeJSON(to: &$0) } }

    /// Groups of mappings shown; JSON has all.
    private static let shown = 8

    package func writeText(to output: inout Output) {
        output.write(line: "process \(process.title)\n")
        for line in table { output.write(line: line) }
        output.write("\n")
        writeGroups(to: &output)
        for line in remarks + [sentence] {
            for part in Layout.wrapped(line, hanging: "    ") { output.write(line: part) }
        }
        output.write(line: "next: \(next)")
    }

    private var table: [String] {
        var rows = Residency.Part.allCases.map { part in
            row(now.bytes[part] ?? 0, growth(of: part), part.name, part.remark)
        }
        rows.append(row(now.sum, growth, "sum", ""))
        let grown = before.map { Self.difference(now.resident, $0.resident) }
        rows.append(row(now.resident, grown, "RSS", "as the kernel counts it"))
        rows.append(["\(remainder)"] + (before == nil ? [] : [""]) + ["remainder", "RSS - sum"])
        let header = ["Bytes"] + (before == nil ? [] : ["Grew by"]) + ["", ""]
        return Layout.table(header, rows, rightAligned: before == nil ? [0] : [0, 1])
    }

    private func row(
        _ bytes: UInt64, _ growth: Int64?, _ name: String, _ remark: String
    ) -> [String] {
        ["\(bytes)"] + (growth.map { [$0 > 0 ? "+\($0)" : "\($0)"] } ?? []) + [name, remark]
    }

    private func writeGroups(to output: inout Output) {
        let groups = groups
        guard !groups.isEmpty else { return }
        output.write(line: "not malloc's, by name:")
        // What grew is shown also if it is small.
        let foremost = groups.prefix(Self.shown)
        let grown = groups.dropFirst(Self.shown).filter { ($0.growth ?? 0) > 64 << 10 }
        for (group, bytes, growth) in foremost + grown.prefix(Self.shown) {
            let number = Layout.right("\(bytes)", 12)
            let change = growth.map { $0 == 0 ? "" : " (\($0 > 0 ? "+" : "")\($0))" } ?? ""
            let room = Layout.width - 14 - change.count
            let name = Layout.safe(group.name)
            let shown = name.count <= room ? name : "..." + name.suffix(max(0, room - 3))
            output.write(line: "\(number)  \(shown)\(change)")
        }
        let rest = groups.count - foremost.count - min(grown.count, Self.shown)
        if rest > 0 { output.write(line: Layout.right("and \(rest) more", 14 + 10)) }
        output.write("\n")
    }

    private var remarks: [String] {
        var lines: [String] = []
        if now.untouched > 0 {
            lines.append(
                "live, but without memory (never touched, or in swap): \(now.untouched) bytes")
        }
        if now.swapped > 0 { lines.append("in swap: \(now.swapped) bytes") }
        if now.hugetlb > 0 { lines.append("hugetlb, not in RSS: \(now.hugetlb) bytes") }
        if now.unknownPages > 0 {
            lines.append(
                "not known of \(now.unknownPages) pages: \(now.unknownReason ?? "no reason given")")
        }
        return lines
    }
}

extension ExplainReport {
    package func writeJSON(to output: inout Output) {
        process.writeReport(to: &output) { json in
            json.field("window_ms", windowNanoseconds.map { $0 / 1_000_000 })
            json.object("parts") { json in
                for part in Residency.Part.allCases {
                    json.object(part.rawValue) { json in
                        json.field("bytes", now.bytes[part] ?? 0)
                        json.field("grew_by", growth(of: part).map { Int($0) })
                    }
                }
            }
            json.field("sum", now.sum)
            json.field("rss", now.resident)
            json.field("remainder", Int(remainder))
            json.field("used", usedBytes)
            json.field("untouched", now.untouched)
            json.field("swapped", now.swapped)
            json.field("hugetlb", now.hugetlb)
            json.field("unknown_pages", now.unknownPages)
            json.array("not_malloc") { json in
                for (group, bytes, growth) in groups {
                    json.object { json in
                        json.field("part", group.part.rawValue)
                        json.field("name", group.name)
                        json.field("bytes", bytes)
                        json.field("grew_by", growth.map { Int($0) })
                    }
                }
            }
            json.field("verdict", verdict.rawValue)
            json.field("sentence", sentence)
            json.field("next", next)
        }
    }
}
