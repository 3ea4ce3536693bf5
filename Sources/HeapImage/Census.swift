// SPDX-License-Identifier: MIT
import Glibc

/// Which process a region belongs to, if it still lives.
///
/// The region names the pid its process has in its own pid namespace. It is alive if a process
/// with that number started no later than the region and maps the very file; where its mappings
/// may not be seen, the first two have to do.
struct Census {
    /// Processes by the pid in their own namespace; made at the first region that is not found
    /// under its number here.
    private var byInnerPid: [Int32: [Int32]]?

    /// Slack for the kernel's clock ticks, in which starts are counted.
    private static let tick: UInt64 = 20_000_000

    /// Of memctl's own pid namespace, as the region names it; 0: not known.
    static let ownNamespace = namespace(of: "self")

    /// Tells whether its process would be seen from here if it lived.
    static func canSee(_ header: RegionHeader) -> Bool {
        let initial: UInt64 = 0xefff_fffc  // the kernel's fixed number: everything lies below it
        return [0, ownNamespace].contains(header.pidNamespace) || ownNamespace == initial
    }

    private enum Answer { case yes, perhaps, no }

    mutating func owner(of entry: RegionEntry) -> Int32? {
        let here = entry.header.pid
        let answer = isOwner(here, of: entry)
        if answer == .yes { return here }
        if byInnerPid == nil { byInnerPid = Self.foreignProcesses() }
        let others = (byInnerPid?[here] ?? []).filter { $0 != here }
        let answers = others.map { (pid: $0, answer: isOwner($0, of: entry)) }
        // One that is seen to map the file comes before any that may not be looked into.
        if let sure = answers.first(where: { $0.answer == .yes }) { return sure.pid }
        if answer == .perhaps { return here }
        return answers.first { $0.answer == .perhaps }?.pid
    }

    private func isOwner(_ pid: Int32, of entry: RegionEntry) -> Answer {
        guard pid > 0, let status = ProcessStatus(pid: pid), !status.isEnding,
            status.innerPid == entry.header.pid,
            status.startNanoseconds <= entry.header.startNanoseconds.plus(Self.tick),
            Self.mayBeIn(entry.header.pidNamespace, theirs: Self.namespace(of: "\(pid)"))
        else { return .no }
        // A process is not asked twice: one that kept a region of its own pid maps the new one.
        guard let mappings = FileMapping.shared(of: pid) else {
            return entry.generation == 0 ? .perhaps : .no
        }
        return mappings.contains { $0.isOf(entry.file) } ? .yes : .no
    }

    /// A process whose namespace can't be seen is one of memctl's own, if of any.
    ///
    /// Numbers mean nothing across namespaces: every container has a process 1.
    static func mayBeIn(_ namespace: UInt64, theirs: UInt64, own: UInt64 = ownNamespace) -> Bool {
        guard namespace != 0 else { return true }
        return theirs != 0 ? theirs == namespace : own == 0 || own == namespace
    }

    static func namespace(of pid: String) -> UInt64 {
        var status = stat()
        return fstatat(AT_FDCWD, "/proc/\(pid)/ns/pid", &status, 0) == 0 ? UInt64(status.st_ino) : 0
    }

    /// Processes of other pid namespaces; none where all share one.
    private static func foreignProcesses() -> [Int32: [Int32]] {
        var found: [Int32: [Int32]] = [:]
        for pid in ProcessStatus.pids() {
            let theirs = namespace(of: "\(pid)")
            guard theirs != 0, theirs != ownNamespace, let status = ProcessStatus(pid: pid) else {
                continue
            }
            found[status.innerPid, default: []].append(pid)
        }
        return found
    }
}
