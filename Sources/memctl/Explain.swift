// SPDX-License-Identifier: MIT
import ArgumentParser
import HeapImage
import Reports

struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Say where a process' resident memory is: leak, cache, fragmentation or not malloc.",
        discussion: """
            With --for the process is looked at twice, and what grew in between is judged. It is \
            neither stopped nor written to.
            """)

    @OptionGroup var target: TargetOptions
    @OptionGroup var output: OutputOptions
    @Option(
        name: .customLong("for"),
        help: ArgumentHelp("Watch it for so long: 30s, 10m, 1h.", valueName: "time"))
    var time: WatchTime?

    func run() throws {
        let entry = try target.entry()
        guard let pid = entry.livePid else { throw HeapImageError.gone(pid: entry.pid) }
        var report = try Self.look(entry, pid)
        if let time {
            let start = bootTimeNanoseconds()
            try Pause().sleep(
                until: start + time.quarters * TaggedSlot.birthNanoseconds,
                saying: "watching \(entry.header.name)")
            let before = report.now
            report = try Self.look(entry, pid)
            report.before = before
            report.windowNanoseconds = bootTimeNanoseconds() - start
        }
        Terminal.print { text in
            switch output.format {
            case .text: report.writeText(to: &text)
            case .json: report.writeJSON(to: &text)
            }
        }
    }

    private static func look(_ entry: RegionEntry, _ pid: Int32) throws -> ExplainReport {
        let walk = try Snapshot.heap(of: entry).get()
        let residency = try Residency(
            walk, Residency.Surroundings(entry, walk, pid: pid), LivePages(pid: pid),
            LiveProcess(pid: pid), resident: ResidentSize(of: pid)?.resident ?? 0)
        return ExplainReport(
            process: ReportedProcess(entry), now: residency, usedBytes: walk.usedBytes,
            isTraced: entry.isTraced)
    }
}
