// SPDX-License-Identifier: MIT
import CRegion
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

    /// The inode of memctl's own pid namespace; 0: not known.
    static let ownNamespace = namespace(of: "self")

    /// The same as a region may name it: by the /proc that counts as memctl does; 0: there is none.
    static let ownProc: UInt64 = {
        var status = stat()
        guard Descriptor.link(at: "/proc/self") == "\(getpid())", stat("/proc", &status) == 0
        else { return 0 }
        return MC_NAMESPACE_OF_PROC | UInt64(status.st_dev)
    }()

    /// Tells whether its process would be seen from here if it lived.
    static func canSee(_ header: RegionHeader) -> Bool {
        let initial: UInt64 = 0xefff_fffc  // the kernel's fixed number: everything lies below it
        let namespace = inode(of: header.pidNamespace)
        if [0, ownNamespace].contains(namespace) { return true }
        // Who has a /proc of its own is known by what it maps, and only root may look at all.
        return ownNamespace == initial && (!isOfProc(namespace) || geteuid() == 0)
    }

    /// A namespace that is named by the /proc that memctl sees is memctl's.
    static func inode(
        of namespace: UInt64, ownProc: UInt64 = ownProc, own: UInt64 = ownNamespace
    ) -> UInt64 {
        namespace != 0 && namespace == ownProc ? own : namespace
    }

    /// Named by some other /proc: it may be any namespace.
    static func isOfProc(_ namespace: UInt64) -> Bool { namespace & MC_NAMESPACE_OF_PROC != 0 }

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
            Self.mayCount(entry.header, pid: pid)
        else { return .no }
        // A process is not asked twice: one that kept a region of its own pid maps the new one.
        guard let mappings = FileMapping.shared(of: pid) else {
            let namespace = Self.inode(of: entry.header.pidNamespace)
            return entry.generation == 0 && !Self.isOfProc(namespace) ? .perhaps : .no
        }
        return mappings.contains { $0.isOf(entry.file) } ? .yes : .no
    }

    /// Tells whether a process may be in the namespace in which the region's pid counts.
    static func mayCount(_ header: RegionHeader, pid: Int32) -> Bool {
        let namespace = inode(of: header.pidNamespace)
        return isOfProc(namespace) || mayBeIn(namespace, theirs: Self.namespace(of: "\(pid)"))
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
