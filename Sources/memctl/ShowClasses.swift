// SPDX-License-Identifier: MIT
import ArgumentParser
import Exports
import HeapImage
import Reports

struct ShowClasses: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "classes", abstract: "Show the heap by size of slot, and its fragmentation.")

    @OptionGroup var target: TargetOptions
    @OptionGroup var output: ReportOptions

    func run() throws {
        let entry = try target.entry()
        let reading = try MemoryReading(entry, .heap, withNodes: false)
        let memory = LiveProcess(pid: entry.pid)
        let pages = LivePages(pid: entry.pid)
        let report = ClassesReport(ReportedProcess(entry), reading) { span in
            span.live == 0
                ? Int(span.slotCount)
                : span.live == span.slotCount
                    ? 0 : SlotMap(span, memory, pages)?.largestFreeRun
        }
        output.print(
            text: report.writeText, json: report.writeJSON, prometheus: report.writePrometheus)
    }
}
