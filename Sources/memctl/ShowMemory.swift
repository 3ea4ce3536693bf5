// SPDX-License-Identifier: MIT
import ArgumentParser
import Exports
import Glibc
import HeapImage
import Reports

struct ShowMemory: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "memory",
        abstract: "Show where a process' memory is: in the heap, by use, and beside it.",
        usage: """
            memctl show memory [-p <pid|name>] [--format <format>]
            memctl show memory map [--all] [--svg <file>] [-p <pid|name>] [--format <format>]
            """,
        discussion: "The process is not stopped, and may be stopped or hung.")

    enum View: String, ExpressibleByArgument, CaseIterable { case map }

    @Argument(help: "`map`: by address, a row a mapping, instead of by use.") var view: View?
    @OptionGroup var target: TargetOptions
    @OptionGroup var output: ReportOptions
    @Flag(help: "map: the rest of the process, too, so that the sum is its RSS.") var all = false
    @Option(
        help: ArgumentHelp("map: write the heap as a picture to this file.", valueName: "file"))
    var svg: String?

    func validate() throws {
        if view != .map, all || svg != nil {
            throw ValidationError("--all and --svg go with `memctl show memory map`")
        }
    }

    func run() throws {
        let entry = try target.entry()
        guard view == .map else { return try showUse(entry) }
        let reading = try MemoryReading(entry, svg == nil ? .process : .heap)
        let process = ReportedProcess(entry)
        if let svg {
            var picture = Output()
            MapPicture(HeapPicture(process, reading)).write(to: &picture)
            try picture.save(to: svg)
            return Terminal.note("wrote \(svg)")
        }
        let report = MapReport(process, reading, isWhole: all)
        output.print(
            text: report.writeText, json: report.writeJSON, prometheus: report.writePrometheus)
    }

    private func showUse(_ entry: RegionEntry) throws {
        let reading = try MemoryReading(entry, .process)
        let traced = (try? StackTable(entry.file, entry.header))?.total ?? StackCounts()
        let report = MemoryReport(entry, reading, traced)
        output.print(
            text: report.writeText, json: report.writeJSON, prometheus: report.writePrometheus)
    }
}
