// SPDX-License-Identifier: MIT
import ArgumentParser
import HeapImage
import Reports

struct ShowTrace: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace", abstract: "Show live memory per backtrace, largest first.",
        discussion: "Works on stopped, hung and killed processes as well.")

    @OptionGroup var target: TargetOptions
    @OptionGroup var view: TraceViewOptions
    @Flag(help: "Show all that was asked for and given back, too, with module+offset.")
    var cumulative = false

    func run() throws {
        let entry = try target.entry()
        let snapshot = try Snapshot(entry)
        let names = Names(entry, snapshot.modules)
        let report = TraceReport(
            snapshot, order: view.sort, limit: view.rowLimit, includingZero: cumulative,
            name: names.callAsFunction)
        Terminal.print { text in
            switch view.format {
            case .text: report.writeText(to: &text, view.text(isCumulative: cumulative))
            case .json: report.writeJSON(to: &text)
            case .vppJSON: report.writeVPPJSON(to: &text)
            }
        }
        if let owner = entry.owner {
            Terminal.note(
                "process \(ReportedProcess(entry).title) was never traced: it is a forked child that"
                    + " shares the region of process \(owner)")
        }
        names.noteProblems()
    }
}

/// How a table of backtraces is to be shown.
struct TraceViewOptions: ParsableArguments {
    @Option(help: "How to write it.") var format = TraceFormat.text
    @Option(help: "Rows to show.") var limit = 50
    @Flag(help: "Show all rows.") var all = false
    @Option(help: "What to order by.") var sort = TraceReport.Order.bytes
    @Option(help: "Frames to show of each backtrace (default: all there are).") var frames: Int?

    var rowLimit: Int? { all ? nil : limit }

    func text(isCumulative: Bool = false) -> TraceReport.TextOptions {
        TraceReport.TextOptions(
            isCumulative: isCumulative, frameLimit: frames, isColoured: Terminal.isColoured)
    }

    func validate() throws {
        guard limit > 0 else { throw ValidationError("--limit must be at least 1") }
        if let frames, frames < 1 { throw ValidationError("--frames must be at least 1") }
    }
}
