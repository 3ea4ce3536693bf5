// SPDX-License-Identifier: MIT
import CKernel
import Glibc

/// How many pages of some address ranges have memory behind them, and on which nodes.
///
/// total = populated + notPopulated + unknown, always.
package struct PageCounts: Equatable, Sendable {
    package var pageSize: UInt64
    package var total: UInt64 = 0
    package var populated: UInt64 = 0
    package var notPopulated: UInt64 = 0
    package var unknown: UInt64 = 0
    /// Of those not populated: in swap.
    package var swapped: UInt64 = 0
    /// Why some are unknown.
    package var unknownReason: String?
    /// Populated pages by node; what is no node's business is not in it.
    package var nodes: [Int: UInt64] = [:]
    /// Why the nodes are not known.
    package var nodesUnavailable: String?

    package init(pageSize: UInt64) {
        self.pageSize = pageSize
    }

    /// Counts the pages of a live process, which is not touched by it: /proc/PID/pagemap is read in
    /// bulk, and only populated pages are asked for their node.
    package init(of ranges: [MemoryRange], in pid: Int32) {
        self.init(pageSize: UInt64(max(4096, sysconf(Int32(_SC_PAGESIZE)))))
        let pagemap: Descriptor?
        do throws(HeapImageError) {
            pagemap = try Descriptor(opening: "/proc/\(pid)/pagemap", following: true)
        } catch {
            pagemap = nil
            unknownReason = "\(error)"
            nodesUnavailable = "not known which pages are populated"
        }
        var nodes = NodeQuery(pid: pid)
        for range in ranges {
            let first = range.start / pageSize
            let count = UInt64(range.size) / pageSize
            total = total.plus(count)
            guard let pagemap else {
                unknown = unknown.plus(count)
                continue
            }
            examine(first, count, pagemap, &nodes)
        }
        nodes.flush()
        self.nodes = nodes.pages
        nodesUnavailable = nodesUnavailable ?? nodes.refusal
    }

    /// Entries read at once: 1 MiB of pagemap, which tells of 512 MiB.
    private static let step: UInt64 = 1 << 17

    private mutating func examine(
        _ first: UInt64, _ count: UInt64, _ pagemap: Descriptor, _ nodes: inout NodeQuery
    ) {
        var entries = [UInt64](repeating: 0, count: Int(min(count, Self.step)))
        var done: UInt64 = 0
        while done < count {
            let wanted = min(count - done, Self.step)
            var got = 0
            let offset = (first + done) * 8
            try? withBytes(of: &entries) { (buffer) throws(HeapImageError) in
                let limited = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(Int(wanted) * 8)])
                got = try pagemap.read(at: offset, into: limited) / 8
            }
            for index in 0..<got {
                let entry = entries[index]
                if entry >> 63 != 0 {
                    populated += 1
                    nodes.add((first + done + UInt64(index)) * pageSize)
                } else {
                    notPopulated += 1
                    swapped += entry >> 62 & 1
                }
            }
            if UInt64(got) < wanted {
                unknown = unknown.plus(count - done - UInt64(got))
                unknownReason = unknownReason ?? "the process gave up this memory meanwhile"
                return
            }
            done += wanted
        }
    }
}

/// Asks move_pages(2), which moves nothing without target nodes, where pages are.
private struct NodeQuery {
    let pid: Int32
    private(set) var pages: [Int: UInt64] = [:]
    private(set) var refusal: String?
    private var waiting: [UInt64] = []
    private static let batch = 1 << 14

    init(pid: Int32) {
        self.pid = pid
        waiting.reserveCapacity(Self.batch)
    }

    mutating func add(_ page: UInt64) {
        guard refusal == nil else { return }
        waiting.append(page)
        if waiting.count == Self.batch { flush() }
    }

    mutating func flush() {
        guard refusal == nil, !waiting.isEmpty else { return }
        var nodes = [Int32](repeating: -1, count: waiting.count)
        let result = mc_query_nodes(pid, waiting.count, waiting, &nodes)
        if result < 0 {
            switch errno {
            case ENOSYS:
                // A kernel without NUMA has one node, number 0.
                pages[0, default: 0] += UInt64(waiting.count)
            case let code:
                refusal = Self.name(code)
                pages = [:]
            }
        } else {
            for node in nodes where node >= 0 { pages[Int(node), default: 0] += 1 }
        }
        waiting.removeAll(keepingCapacity: true)
    }

    private static func name(_ code: Int32) -> String {
        switch code {
        case EPERM: "EPERM"
        case EACCES: "EACCES"
        case ESRCH: "ESRCH"
        case EINVAL: "EINVAL"
        case ENOMEM: "ENOMEM"
        default: message(code)
        }
    }
}
