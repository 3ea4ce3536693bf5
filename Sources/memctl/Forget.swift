// SPDX-License-Identifier: MIT
import ArgumentParser
import HeapImage
import Reports

struct Forget: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Remove the traces that ended processes left.")

    @Argument(help: "The pid (or PID.N, or name) of a process that has ended.") var process: String?
    @Flag(help: "All processes that have ended.") var all = false

    func validate() throws {
        if all == (process != nil) {
            throw ValidationError("say which process: a pid, a name, or --all")
        }
    }

    func run() throws {
        let directory = RegionDirectory()
        let entries = directory.entries()
        let ended = entries.filter { $0.livePid == nil }
        guard let process else {
            // What no process has, and nobody can read: of another version of memctl, or damaged.
            let others = directory.others().filter { !$0.isInUse }
            for entry in ended { try directory.remove(entry) }
            for other in others { try directory.remove(other) }
            let count = UInt64(ended.count + others.count)
            Terminal.print("forgot \(Layout.count(count, "process", "processes"))")
            return
        }
        let matching = ended.filter {
            $0.label == process || "\($0.pid)" == process || $0.header.name == process
        }
        let exact = matching.filter { $0.label == process }
        let chosen = exact.isEmpty ? matching : exact
        guard !chosen.isEmpty else {
            if let entry = entries.first(where: { $0.label == process || $0.header.name == process }
            ) {
                throw ForgetError.alive(ReportedProcess(entry))
            }
            throw ForgetError.nothing(process)
        }
        for entry in chosen {
            try directory.remove(entry)
            Terminal.print("forgot \(ReportedProcess(entry).title)")
        }
    }
}

enum ForgetError: Error, Equatable, CustomStringConvertible {
    case alive(ReportedProcess)
    case nothing(String)

    var description: String {
        switch self {
        case .alive(let process):
            "process \(process.title) is alive — `memctl trace reset` starts its table anew"
        case .nothing(let process):
            "nothing is left of a process \(process) — `memctl list` shows what there is"
        }
    }
}
