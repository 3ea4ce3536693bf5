// SPDX-License-Identifier: MIT
import ArgumentParser
import Glibc
import HeapImage
import Reports

struct LeakCheck: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what is asked for in a stretch of time, or a program's run, and not freed.",
        usage: """
            memctl leak-check --for <time> [-p <pid|name>] [--check] [<options>]
            memctl leak-check [--check] [<options>] -- <command> ...
            """,
        discussion: """
            With --for, a living process is watched: tracing is turned on if it is off, and off \
            again at the end. With a command, the program is traced from its first allocation to \
            its exit. With --check the exit status is 2 if anything was found.
            """)

    @OptionGroup var target: TargetOptions
    @OptionGroup var view: TraceViewOptions
    @OptionGroup var depth: DepthOption
    @Option(
        name: .customLong("for"),
        help: ArgumentHelp(
            "How long to watch: 10s, 500ms, 2m, 1h; counted in quarters of a second.",
            valueName: "time"))
    var time: WatchTime?
    @Flag(help: "Exit with status 2 if anything was found.") var check = false
    @Argument(parsing: .postTerminator, help: "A program to run and watch.")
    var command: [String] = []

    func validate() throws {
        if command.isEmpty == (time == nil) {
            throw ValidationError("give either --for TIME or a program: -- COMMAND")
        }
        if !command.isEmpty, target.process != nil || target.file != nil {
            throw ValidationError("-p and --file name a process that runs: they go with --for")
        }
        guard [.text, .json].contains(view.format) else {
            throw ValidationError(
                "--format \(view.format.rawValue) is for show trace; use text or json")
        }
    }

    func run() throws {
        let reports: [LeakReport]
        var failed = false
        if let time {
            reports = [try watch(for: time)]
        } else {
            (reports, failed) = try runProgram()
        }
        Terminal.print { output in
            if view.format == .json {
                LeakReport.writeJSON(reports, to: &output)
            } else {
                for report in reports { report.writeText(to: &output, view.text()) }
            }
        }
        if check, reports.contains(where: \.hasLeaks) { throw ExitCode(2) }
        if failed { throw ExitCode.failure }
    }

    // MARK: A living process

    private func watch(for time: WatchTime) throws -> LeakReport {
        var entry = try Steering.living(target)
        // Found out now rather than at the end: may its memory be read at all?
        _ = try Snapshot.heap(of: entry).get()
        // From here on an interrupt waits until what is changed can be put back.
        let pause = Pause()
        let wasTraced = entry.isTraced && !entry.isShared
        let oldDepth = entry.header.depth
        if !wasTraced {
            let asked = entry
            entry = try Steering.on(asked, TraceSettings(depth: depth.depth))
            if entry.isShared {
                try? Steering.off(asked)
                throw SteeringError.noRegionYet(ReportedProcess(asked))
            }
        }
        let file = try entry.file.forWriting()
        let before = try file.header()
        if wasTraced, let depth = depth.depth { try file.setDepth(UInt32(depth)) }
        defer {
            if !wasTraced { try? Steering.off(entry) }
            if depth.depth != nil { try? file.setDepth(oldDepth) }
        }
        let clock = BirthClock(start: before.birthsFromNanoseconds)
        let first = clock.nextQuarter()
        let window = LeakWindow(first: first, end: first + time.quarters)
        try pause.sleep(until: clock.time(of: window.first))
        try pause.sleep(until: clock.time(of: window.end), saying: "watching \(entry.header.name)")
        let (table, samples) = try window.table(entry, LiveProcess(pid: entry.pid))
        let after = try file.header()
        let names = Names(entry, try file.modules(after))
        return LeakReport(
            entry, table, samples: samples, window: .time(nanoseconds: window.nanoseconds),
            order: view.sort ?? .bytes, limit: view.rowLimit,
            missing: TraceReport.Missing(since: before, after), name: names.callAsFunction)
    }

    // MARK: A program's whole run

    private func runProgram() throws -> (reports: [LeakReport], failed: Bool) {
        let folder = try PrivateFolder()
        defer { folder.remove() }
        var program = Program(
            command, library: try Library.find(), trace: true, keep: true,
            settings: TraceSettings(depth: depth.depth))
        program.variables["MEMCTL_DIR"] = folder.path
        let status: Int32
        do {
            status = try program.runToItsEnd().status
        } catch let error as ProgramError {
            Terminal.note("\(error)")
            throw ExitCode(error.exitStatus)
        }
        let ending = ProgramEnd(status: status)
        if let remark = ending.remark { Terminal.note("\(program.arguments[0]) \(remark)") }
        // The program, and the processes it started; one that only forked has no region.
        let entries = RegionDirectory(chosen: folder.path).entries().reversed()
        guard !entries.isEmpty else { throw LeakCheckError.noTrace(program.arguments[0]) }
        let reports = try entries.map { entry in
            let table = try StackTable(entry.file, entry.header)
            let names = Names(entry, try entry.file.modules(entry.header))
            return LeakReport(
                entry, table, samples: [], window: .wholeRun, order: view.sort ?? .bytes,
                limit: view.rowLimit, missing: TraceReport.Missing(entry.header),
                name: names.callAsFunction)
        }
        return (reports, !ending.isSuccess)
    }
}

enum LeakCheckError: Error, Equatable, CustomStringConvertible {
    case noTrace(String)
    case interrupted
    case noFolder(String, Int32)

    var description: String {
        switch self {
        case .noTrace(let name):
            "\(name) left no trace — it must be dynamically linked, not setuid, and its folder for "
                + "regions writable; MEMCTL_VERBOSE=1 says more"
        case .interrupted: "interrupted — tracing is as it was before"
        case .noFolder(let path, let code):
            "can't make a folder \(path): \(message(code)) — set TMPDIR to one that is writable"
        }
    }
}

extension TraceReport.Missing {
    /// What was missed between two looks.
    fileprivate init(since before: RegionHeader, _ after: RegionHeader) {
        self.init()
        overflowStacks = after.overflowStacks.minus(before.overflowStacks)
        untaggedAllocs = after.untaggedAllocs.minus(before.untaggedAllocs)
        cutStacks = after.cutStacks.minus(before.cutStacks)
        stoppedStacks = after.stoppedStacks.minus(before.stoppedStacks)
    }
}
