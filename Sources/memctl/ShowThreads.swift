// SPDX-License-Identifier: MIT
import ArgumentParser
import Exports
import HeapImage
import Reports

struct ShowThreads: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "threads", abstract: "Show what each thread holds of the heap.")

    @OptionGroup var target: TargetOptions
    @OptionGroup var output: ReportOptions

    func run() throws {
        let entry = try target.entry()
        let report = ThreadsReport(
            ReportedProcess(entry), try MemoryReading(entry, .heap),
            ProcessThreads(of: entry.pid), NodeTopology())
        output.print(
            text: report.writeText, json: report.writeJSON, prometheus: report.writePrometheus)
    }
}
