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

    mutating func owner(of entry: RegionEntry) -> Int32? {
        if isOwner(entry.header.pid, of: entry) { return entry.header.pid }
        if byInnerPid == nil { byInnerPid = Self.foreignProcesses() }
        let others = byInnerPid?[entry.header.pid] ?? []
        return others.first { isOwner($0, of: entry) }
    }

    private func isOwner(_ pid: Int32, of entry: RegionEntry) -> Bool {
        guard pid > 0, let status = ProcessStatus(pid: pid), !status.isEnding,
            status.innerPid == entry.header.pid,
            status.startNanoseconds <= entry.header.startNanoseconds.plus(Self.tick)
        else { return false }
        // A process is not asked twice: one that kept a region of its own pid maps the new one.
        guard let mappings = FileMapping.shared(of: pid) else { return entry.generation == 0 }
        return mappings.contains {
            $0.inode == entry.file.inode
                && ($0.device == entry.file.device || entry.file.path.hasSuffix($0.path))
        }
    }

    private static func namespace(of pid: String) -> UInt64 {
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
