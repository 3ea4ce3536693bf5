// SPDX-License-Identifier: MIT
import Glibc

/// Why a heap or region could not be read.
///
/// Every description: what failed — what to do next.
package enum HeapImageError: Error, Equatable, Sendable {
    case noProcess(pid: Int32)
    case notPreloaded(pid: Int32)
    case otherUser(pid: Int32, uid: UInt32)
    /// `scope` is kernel.yama.ptrace_scope, where the kernel has one.
    case notPermitted(pid: Int32, scope: Int?)
    case gone(pid: Int32)
    case unreadable(address: UInt64)
    case cannotOpen(path: String, code: Int32)
    case cannotWrite(path: String, code: Int32)
    case notRegion(path: String, why: String)
    case otherVersion(found: UInt32, expected: UInt32)
    case damagedRegion(path: String, why: String)
    case otherHeap(found: UInt32, expected: UInt32)
    case damagedHeap(why: String)
}

extension HeapImageError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .noProcess(let pid):
            "there is no process \(pid), and none of that number left a trace"
                + " — `memctl list` shows what there is"
        case .notPreloaded(let pid):
            "process \(pid) does not use the memctl heap — start it with `memctl run -- COMMAND`"
        case .otherUser(let pid, let uid):
            "process \(pid) belongs to user \(uid) — run memctl as that user or as root"
        case .notPermitted(let pid, let scope):
            "not allowed to read the memory of process \(pid)" + Self.hint(scope)
        case .gone(let pid):
            "process \(pid) has ended, and its heap with it"
                + " — `memctl list` shows what it left, `memctl show trace` its trace"
        case .unreadable(let address):
            "no memory at \(hex(address)) — the process may have just ended; try again"
        case .cannotOpen(let path, let code):
            "can't open \(path): \(message(code)) — check the name and your permissions"
        case .cannotWrite(let path, let code):
            "can't write \(path): \(message(code)) — run memctl as the owner of the process or as root"
        case .notRegion(let path, let why):
            "\(path) is not a region file: \(why) — `memctl list` names the files there are"
        case .otherVersion(let found, let expected):
            "the region speaks version \(found), memctl \(expected)"
                + " — use the memctl that came with the process' libmemctl.so"
        case .damagedRegion(let path, let why):
            "\(path) is damaged: \(why) — `memctl forget` removes it once the process has ended"
        case .otherHeap(let found, let expected):
            "the heap speaks version \(found), memctl \(expected)"
                + " — use the memctl that came with the process' libmemctl.so"
        case .damagedHeap(let why):
            "the heap's own structures are damaged: \(why)"
                + " — the process overwrote them; counts in the region may still be right"
        }
    }

    private static func hint(_ scope: Int?) -> String {
        // Root without the capability: in a container that keeps it, or a process that is set apart.
        let always =
            geteuid() == 0
            ? ", not even as root — give memctl CAP_SYS_PTRACE, or run it outside of the container"
            : " — run memctl as root or give it CAP_SYS_PTRACE"
        guard let scope, scope > 0 else { return always }
        return " (kernel.yama.ptrace_scope is \(scope))" + always
            + (scope < 3 ? ", or write 0 to /proc/sys/kernel/yama/ptrace_scope" : "")
    }
}
