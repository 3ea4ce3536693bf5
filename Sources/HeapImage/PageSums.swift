// SPDX-License-Identifier: MIT
import Glibc

/// Pages of one owner, whatever that is: a span, a class, a thread, a mapping.
///
/// total = populated + notPopulated + unknown, always.
package struct PageTally: Equatable, Sendable {
    package var total: UInt64 = 0
    /// With memory of its own behind it.
    package var populated: UInt64 = 0
    package var unknown: UInt64 = 0
    /// Of those not populated: in swap.
    package var swapped: UInt64 = 0
    /// Of those not populated: the kernel's page of zeros, which was read and never written.
    package var zero: UInt64 = 0
    /// Of the populated: in huge pages.
    package var huge: UInt64 = 0
    /// Of the populated: on this node; empty when nobody asked.
    package var nodes: [UInt64] = []

    package init() {}

    package var notPopulated: UInt64 { total.minus(populated.plus(unknown)) }

    package mutating func add(_ other: PageTally) {
        total += other.total
        populated += other.populated
        unknown += other.unknown
        swapped += other.swapped
        zero += other.zero
        huge += other.huge
        while nodes.count < other.nodes.count { nodes.append(0) }
        for (node, pages) in other.nodes.enumerated() { nodes[node] += pages }
    }

    fileprivate mutating func add(_ pages: UInt64, _ flags: PageFlags) {
        if flags.contains(.unknown) {
            unknown += pages
        } else if flags.contains(.zero) {
            zero += pages
        } else if flags.contains(.present) {
            populated += pages
            if flags.contains(.huge) { huge += pages }
        } else if flags.contains(.swapped) {
            swapped += pages
        }
    }

    fileprivate mutating func add(_ pages: UInt64, onNode node: Int) {
        while nodes.count <= node { nodes.append(0) }
        nodes[node] += pages
    }
}

/// Addresses of an owner, which is a number of the caller's.
package struct OwnedRange: Equatable, Sendable {
    package var range: Range<UInt64>
    package var owner: Int

    package init(_ range: Range<UInt64>, owner: Int) {
        self.range = range
        self.owner = owner
    }
}

/// The pages of many ranges, summed by owner in one pass over the address space.
package struct PageSums: Equatable, Sendable {
    package let pageSize: UInt64
    /// By owner.
    package private(set) var tallies: [PageTally]
    /// Why some pages are unknown.
    package private(set) var unknownReason: String?
    /// Why the nodes are not known, though somebody asked.
    package private(set) var nodesUnavailable: String?
    /// Whether zero and huge pages are told apart from others.
    package let tellsKinds: Bool

    /// Nodes of a machine, at most: more are no node numbers.
    private static let nodeLimit: Int32 = 1024

    /// `ranges` are in order and disjoint, whole pages, owners below `ownerCount`.
    package init(
        of ranges: [OwnedRange], ownerCount: Int, in source: some PageSource, withNodes: Bool
    ) {
        pageSize = source.pageSize
        tellsKinds = source.tellsKinds
        tallies = Array(repeating: PageTally(), count: ownerCount)
        var query = NodeQuery(hugeSize: Self.hugeSize)
        var first = 0
        while first < ranges.count {
            // Ranges that adjoin are looked through in one go.
            var last = first
            while last + 1 < ranges.count,
                ranges[last].range.upperBound == ranges[last + 1].range.lowerBound
            {
                last += 1
            }
            let window = ranges[first].range.lowerBound..<ranges[last].range.upperBound
            var index = first
            let reason = source.visit(window) { run in
                while index < last, ranges[index].range.upperBound <= run.range.lowerBound {
                    index += 1
                }
                add(run, ranges, from: index, through: last, &query, source, withNodes)
            }
            unknownReason = unknownReason ?? reason
            for range in ranges[first...last] {
                tallies[range.owner].total +=
                    (range.range.upperBound - range.range.lowerBound) / pageSize
            }
            first = last + 1
        }
        if withNodes { flush(&query, source) }
    }

    /// The pages of all owners together.
    package var total: PageTally {
        tallies.reduce(into: PageTally()) { $0.add($1) }
    }

    private mutating func add(
        _ run: PageRun, _ ranges: [OwnedRange], from first: Int, through last: Int,
        _ query: inout NodeQuery, _ source: some PageSource, _ withNodes: Bool
    ) {
        var index = first
        while index <= last, ranges[index].range.lowerBound < run.range.upperBound {
            let part = run.range.clamped(to: ranges[index].range)
            let owner = ranges[index].owner
            index += 1
            guard !part.isEmpty else { continue }
            tallies[owner].add((part.upperBound - part.lowerBound) / pageSize, run.flags)
            guard withNodes, nodesUnavailable == nil, run.flags.contains(.present),
                !run.flags.contains(.zero)
            else { continue }
            var page = part.lowerBound
            while page < part.upperBound {
                let next = query.add(page, run.flags, owner, pageSize, before: part.upperBound)
                page = next
                if query.isFull { flush(&query, source) }
            }
        }
    }

    private mutating func flush(_ query: inout NodeQuery, _ source: some PageSource) {
        defer { query.clear() }
        guard nodesUnavailable == nil, !query.pages.isEmpty else { return }
        switch source.nodes(of: query.pages) {
        case .refused(let code):
            nodesUnavailable = name(ofError: code)
            for owner in tallies.indices { tallies[owner].nodes = [] }
        case .nodes(let nodes):
            for (node, part) in zip(nodes, query.parts) {
                if node >= 0, node < Self.nodeLimit {
                    tallies[part.owner].add(part.pages, onNode: Int(node))
                } else if node == -EFAULT, !tellsKinds {
                    // Present, said the pagemap, and no page, says this call: the page of zeros.
                    tallies[part.owner].populated -= min(part.pages, tallies[part.owner].populated)
                    tallies[part.owner].zero += part.pages
                }
            }
        }
    }

    /// Bytes of a huge page.
    private static var hugeSize: UInt64 {
        let text = Descriptor.contents(of: "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
        return text.flatMap { UInt64(String(decoding: $0.filter { $0 > 32 }, as: UTF8.self)) }
            ?? 2 << 20
    }
}

/// Pages whose node is to be asked for, some at a time; of a huge page the first alone.
private struct NodeQuery {
    private(set) var pages: [UInt64] = []
    private(set) var parts: [(owner: Int, pages: UInt64)] = []
    private let hugeSize: UInt64
    private static let batch = 1 << 14

    init(hugeSize: UInt64) {
        self.hugeSize = max(4096, hugeSize)
    }

    var isFull: Bool { pages.count >= Self.batch }

    /// Returns where to go on.
    mutating func add(
        _ page: UInt64, _ flags: PageFlags, _ owner: Int, _ pageSize: UInt64, before end: UInt64
    ) -> UInt64 {
        let step = flags.contains(.huge) ? hugeSize - page % hugeSize : pageSize
        let next = min(end, page.plus(step))
        pages.append(page)
        parts.append((owner, (next - page) / pageSize))
        return next
    }

    mutating func clear() {
        pages.removeAll(keepingCapacity: true)
        parts.removeAll(keepingCapacity: true)
    }
}

/// The name of an errno value, where it is one that these calls know.
func name(ofError code: Int32) -> String {
    switch code {
    case EPERM: "EPERM"
    case EACCES: "EACCES"
    case ESRCH: "ESRCH"
    case EINVAL: "EINVAL"
    case ENOMEM: "ENOMEM"
    case ENOSYS: "ENOSYS"
    default: message(code)
    }
}
