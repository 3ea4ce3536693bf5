// SPDX-License-Identifier: MIT
import ArgumentParser
import Exports
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
    @Option(help: "Numbers to show.") var columns: TraceColumns?
    @Flag(help: "Show the ids of rows, for trace deepen.") var ids = false
    @Option(help: ArgumentHelp("Only what has lived that long: 60s, 5m.", valueName: "time"))
    var olderThan: WatchTime?
    @Option(help: ArgumentHelp("Only what has not lived that long.", valueName: "time"))
    var youngerThan: WatchTime?
    @Option(help: ArgumentHelp("Only what a thread has, by the kernel's id.", valueName: "tid"))
    var thread: UInt32?

    func validate() throws {
        if cumulative, let columns, columns != .cumulative {
            throw ValidationError("--cumulative has columns of its own")
        }
        if isFiltered, cumulative || [.cumulative, .lifetimes, .waste].contains(columns) {
            throw ValidationError(
                "--older-than, --younger-than and --thread tell of live allocations one by one:"
                    + " they go with --columns live")
        }
    }

    private var isFiltered: Bool { olderThan != nil || youngerThan != nil || thread != nil }
    private var shown: TraceColumns { columns ?? (cumulative ? .cumulative : .live) }

    /// What the columns are about comes first.
    private var order: TraceReport.Order {
        switch (view.sort, shown) {
        case (let order?, _): order
        case (nil, .lifetimes): .temporary
        case (nil, .waste): .waste
        case (nil, .live), (nil, .cumulative): .bytes
        }
    }

    func run() throws {
        let entry = try target.entry()
        let (report, names) = try isFiltered ? filtered(entry) : whole(entry)
        Terminal.print { text in
            switch view.format {
            case .text: report.writeText(to: &text, view.text(columns: shown, showsIDs: ids))
            case .json: report.writeJSON(to: &text)
            case .vppJSON: report.writeVPPJSON(to: &text)
            case .folded: FoldedStacks(report, by: order).write(to: &text)
            }
        }
        if let owner = entry.owner {
            Terminal.note(
                "process \(ReportedProcess(entry).title) was never traced: it is a forked child that"
                    + " shares the region of process \(owner)")
        }
        names.noteProblems()
    }

    private func whole(_ entry: RegionEntry) throws -> (TraceReport, Names) {
        let snapshot = try Snapshot(entry)
        let names = Names(entry, snapshot.modules)
        // All tags are looked at for that, so it is done on request.
        let pinned = shown == .waste ? snapshot.pinned() : nil
        // Rows of which nothing lives may be the first by what was ever made.
        let includesZero =
            shown == .cumulative || shown == .lifetimes || order == .allocs || order == .temporary
        let report = TraceReport(
            snapshot, order: order, limit: view.rowLimit, includingZero: includesZero,
            pinned: pinned, name: names.callAsFunction)
        return (report, names)
    }

    private func filtered(_ entry: RegionEntry) throws -> (TraceReport, Names) {
        guard let pid = entry.livePid else { throw TargetError.noMemory(ReportedProcess(entry)) }
        let filter = SlotFilter(
            olderThan: olderThan?.nanoseconds, youngerThan: youngerThan?.nanoseconds,
            thread: thread, birthsFrom: entry.header.birthsFromNanoseconds,
            now: bootTimeNanoseconds())
        let memory = LiveProcess(pid: pid)
        try noteIfUnknown(thread, of: entry, memory)
        let (table, samples) = try filter.table(entry, memory)
        let header = try entry.file.header()
        let names = Names(entry, try entry.file.modules(header))
        let report = TraceReport(
            entry, table, samples: samples, filter: filter.description, order: order,
            limit: view.rowLimit, missing: TraceReport.Missing(header), name: names.callAsFunction)
        return (report, names)
    }

    /// That a table is empty would say the same of a thread without allocations.
    private func noteIfUnknown(
        _ thread: UInt32?, of entry: RegionEntry, _ memory: LiveProcess
    ) throws {
        guard let thread,
            try !HeapWalk(memory, root: entry.header.heapRoot).threads.contains(where: {
                $0.tid == thread
            })
        else { return }
        Terminal.note(
            "thread \(thread) has nothing of the heap"
                + " — `memctl show threads -p \(entry.label)` lists those that have")
    }
}

/// How a table of backtraces is to be shown.
struct TraceViewOptions: ParsableArguments {
    @Option(help: "How to write it.") var format = TraceFormat.text
    @Option(help: "Rows to show (default: 50; all of them folded).") var limit: Int?
    @Flag(help: "Show all rows.") var all = false
    @Option(help: "What to order by (default: bytes, or what the columns are about).")
    var sort: TraceReport.Order?
    @Option(help: "Frames to show of each backtrace (default: all there are).") var frames: Int?

    /// A picture is of the whole.
    var rowLimit: Int? { all ? nil : limit ?? (format == .folded ? nil : 50) }

    func text(
        columns: TraceColumns = .live, showsIDs: Bool = false
    ) -> TraceReport.TextOptions {
        TraceReport.TextOptions(
            columns: columns, frameLimit: frames, isColoured: Terminal.isColoured,
            showsIDs: showsIDs)
    }

    func validate() throws {
        if let limit, limit < 1 { throw ValidationError("--limit must be at least 1") }
        if let frames, frames < 1 { throw ValidationError("--frames must be at least 1") }
    }
}
