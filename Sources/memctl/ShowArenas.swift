// SPDX-License-Identifier: MIT
import ArgumentParser
import Exports
import HeapImage
import Reports

struct ShowArenas: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "arenas",
        abstract: "Show where the heap has its memory from: in use, total, succeeded, failed.")

    @OptionGroup var target: TargetOptions
    @OptionGroup var output: ReportOptions

    func run() throws {
        let entry = try target.entry()
        let report = ArenasReport(
            ReportedProcess(entry), try Snapshot.heap(of: entry).get())
        output.print(
            text: report.writeText, json: report.writeJSON, prometheus: report.writePrometheus)
    }
}
