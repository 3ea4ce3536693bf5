// SPDX-License-Identifier: MIT
import ArgumentParser
import Exports
import HeapImage
import Reports

struct ShowSizes: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sizes", abstract: "Show what sizes are asked for, and what slots waste.",
        discussion: "Requests are known of traced slots: `memctl trace on` makes them so.")

    @OptionGroup var target: TargetOptions
    @OptionGroup var output: ReportOptions

    func run() throws {
        let entry = try target.entry()
        let walk = try Snapshot.heap(of: entry).get()
        let report = try SizesReport(
            ReportedProcess(entry), walk, LiveProcess(pid: entry.pid))
        output.print(
            text: report.writeText, json: report.writeJSON, prometheus: report.writePrometheus)
    }
}
