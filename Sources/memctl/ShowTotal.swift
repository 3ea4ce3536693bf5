// SPDX-License-Identifier: MIT
import ArgumentParser
import Exports
import HeapImage
import Reports

struct ShowTotal: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "total", abstract: "Print the bytes in use, as one number.")

    @OptionGroup var target: TargetOptions
    @OptionGroup var output: ReportOptions

    func run() throws {
        let entry = try target.entry()
        let report = TotalReport(
            process: ReportedProcess(entry), used: try Snapshot.total(of: entry).get().usedBytes)
        output.print(
            text: report.writeText, json: report.writeJSON, prometheus: report.writePrometheus)
    }
}
