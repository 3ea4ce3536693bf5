// SPDX-License-Identifier: MIT
import HeapImage

/// The processes there are regions of.
package struct ListReport: Equatable, Sendable {
    package struct Row: Equatable, Sendable {
        package var process: ReportedProcess
        /// nil once the process has ended.
        package var uptimeNanoseconds: UInt64?
        /// nil when the heap can't be read.
        package var usedBytes: UInt64?
        package var stacks: UInt64
        package var file: String
        /// Whose region it shares, having none of its own; else nil.
        package var owner: Int32?

        package init(
            process: ReportedProcess, uptimeNanoseconds: UInt64?, usedBytes: UInt64?,
            stacks: UInt64, file: String, owner: Int32? = nil
        ) {
            self.process = process
            self.uptimeNanoseconds = uptimeNanoseconds
            self.usedBytes = usedBytes
            self.stacks = stacks
            self.file = file
            self.owner = owner
        }
    }

    /// Living ones first, then by pid.
    package let rows: [Row]

    package init(_ rows: [Row]) {
        self.rows = rows.sorted {
            ($0.process.state == .alive ? 0 : 1, $0.process.pid, $0.process.label)
                < ($1.process.state == .alive ? 0 : 1, $1.process.pid, $1.process.label)
        }
    }

    package init(_ entries: [RegionEntry], now: UInt64) {
        self.init(
            entries.map { entry in
                let isAlive = entry.livePid != nil
                return Row(
                    process: ReportedProcess(entry),
                    uptimeNanoseconds: isAlive ? now.minus(entry.header.startNanoseconds) : nil,
                    usedBytes: isAlive ? (try? Snapshot.heap(of: entry).get())?.usedBytes : nil,
                    stacks: entry.header.stackCount, file: entry.file.path,
                    owner: entry.owner)
            })
    }

    package func writeText(to output: inout Output) {
        guard !rows.isEmpty else {
            return output.write(
                line: "no process uses the memctl heap — start one with `memctl run -- COMMAND`")
        }
        let cells = rows.map { row in
            [
                row.process.label, Layout.safe(row.process.name),
                row.uptimeNanoseconds.map(Layout.duration) ?? "-",
                row.usedBytes.map { "\($0)" } ?? "-", row.process.isTraced ? "on" : "off",
                "\(row.stacks)",
                row.process.state.rawValue + (row.owner.map { ", shares \($0)'s region" } ?? ""),
            ]
        }
        let header = ["PID", "NAME", "UPTIME", "USED", "TRACE", "STACKS", "STATE"]
        for line in Layout.table(header, cells, rightAligned: [0, 2, 3, 5]) {
            output.write(line: line)
        }
    }

    package func writeJSON(to output: inout Output) {
        JSONWriter.write(to: &output) { json in
            json.array { json in
                for row in rows {
                    json.object { json in
                        json.field("pid", Int(row.process.pid))
                        json.field("label", row.process.label)
                        json.field("name", row.process.name)
                        json.field("executable", row.process.executable)
                        json.field("state", row.process.state.rawValue)
                        json.field("traced", row.process.isTraced)
                        json.field("uptime_ms", row.uptimeNanoseconds.map { $0 / 1_000_000 })
                        json.field("used", row.usedBytes)
                        json.field("stacks", row.stacks)
                        json.field("file", row.file)
                        json.field("shares", row.owner.map { UInt64(clamping: $0) })
                    }
                }
            }
        }
    }
}
