// SPDX-License-Identifier: MIT
import ArgumentParser
import HeapImage
import Reports

/// Which process a command is about: one that is named, a region file, or the only one there is.
struct TargetOptions: ParsableArguments {
    @Option(
        name: [.customShort("p"), .customLong("process")],
        help: ArgumentHelp(
            "The process: its pid or name; PID.N is an earlier one with the same pid.",
            valueName: "pid|name"))
    var process: String?

    @Option(help: ArgumentHelp("A region file, instead of a process.", valueName: "region"))
    var file: String?

    func validate() throws {
        if process != nil, file != nil {
            throw ValidationError("give either -p or --file, not both")
        }
        if process == "" || file == "" {
            throw ValidationError("-p and --file take a name, not an empty one")
        }
    }

    func entry(in directory: RegionDirectory = RegionDirectory()) throws -> RegionEntry {
        if let file { return try directory.entry(path: file) }
        if let problem = directory.problem() { Terminal.note(problem) }
        guard let process else { return try Self.only(of: directory.entries()) }
        if let pid = Int32(process), pid > 0 { return try Self.find(pid: pid, in: directory) }
        return try Self.named(process, of: directory.entries())
    }

    /// A living process of that number, else what an ended one left.
    private static func find(pid: Int32, in directory: RegionDirectory) throws -> RegionEntry {
        let living = Result { () throws(HeapImageError) in try directory.entry(livePid: pid) }
        switch living {
        case .failure(.noProcess), .failure(.notPreloaded):
            let ended = directory.entries().filter {
                $0.livePid == nil && !$0.isLeftover && $0.pid == pid
            }
            if let entry = ended.min(by: { $0.generation < $1.generation }) { return entry }
        default: break
        }
        return try living.get()
    }

    static func only(of entries: [RegionEntry]) throws -> RegionEntry {
        let living = entries.filter { $0.livePid != nil }
        if living.count == 1 { return living[0] }
        if living.isEmpty {
            throw TargetError.none(
                ended: entries.filter { !$0.isLeftover }.map(ReportedProcess.init))
        }
        throw TargetError.several(name: nil, living.map(ReportedProcess.init))
    }

    /// The living process of that name, else the ended one.
    static func named(_ name: String, of entries: [RegionEntry]) throws -> RegionEntry {
        let matching = entries.filter {
            !$0.isLeftover && ($0.header.name == name || $0.label == name)
        }
        let living = matching.filter { $0.livePid != nil }
        let candidates = living.isEmpty ? matching : living
        if candidates.count == 1 { return candidates[0] }
        if candidates.isEmpty {
            throw TargetError.noMatch(name: name, entries.map(ReportedProcess.init))
        }
        throw TargetError.several(name: name, candidates.map(ReportedProcess.init))
    }
}

/// Why it is not clear which process is meant.
///
/// Lists the choices.
enum TargetError: Error, Equatable, CustomStringConvertible {
    case none(ended: [ReportedProcess])
    case noMatch(name: String, [ReportedProcess])
    case several(name: String?, [ReportedProcess])
    case notAlive(ReportedProcess)
    case noMemory(ReportedProcess)

    var description: String {
        switch self {
        case .none(let ended):
            "no living process uses the memctl heap — start one with `memctl run -- COMMAND`"
                + (ended.isEmpty ? "" : ", or choose one that ended with -p:" + Self.list(ended))
        case .noMatch(let name, let all):
            "no process named \(name) uses the memctl heap — "
                + (all.isEmpty
                    ? "start it with `memctl run -- COMMAND`" : "there are:" + Self.list(all))
        case .several(let name, let all):
            (name.map { "several processes are named \($0)" } ?? "there are several processes")
                + " — choose one with -p PID:" + Self.list(all)
        case .notAlive(let process):
            "process \(process.title) has ended, there is nothing to steer"
                + " — its trace can still be shown"
        case .noMemory(let process):
            "process \(process.title) has ended, and the age and thread of what it had with it"
                + " — `memctl show trace` without these options shows the rest"
        }
    }

    /// As many as fit a screen, the newest first.
    private static func list(_ processes: [ReportedProcess]) -> String {
        let shown = processes.prefix(20).map { "\n    \($0.title)" }.joined()
        let rest = processes.count - 20
        return shown + (rest > 0 ? "\n    and \(rest) more: see `memctl list`" : "")
    }
}
