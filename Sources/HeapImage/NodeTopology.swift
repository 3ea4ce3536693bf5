// SPDX-License-Identifier: MIT

/// Which processors are on which NUMA node, and what the kernel was told to do with pages.
package struct NodeTopology: Equatable, Sendable {
    /// Nodes that have memory or processors, in order.
    package private(set) var nodes: [Int]
    private var nodeOfProcessor: [Int: Int]

    package init(nodes: [Int], nodeOfProcessor: [Int: Int]) {
        self.nodes = nodes
        self.nodeOfProcessor = nodeOfProcessor
    }

    /// This machine's; `folder` holds another's, recorded.
    package init(folder: String = "/sys/devices/system/node") {
        nodes = []
        nodeOfProcessor = [:]
        for name in Descriptor.names(in: folder) where name.hasPrefix("node") {
            guard let node = Int(name.dropFirst(4)) else { continue }
            nodes.append(node)
            let list = Descriptor.contents(of: "\(folder)/\(name)/cpulist") ?? []
            for processor in Self.numbers(in: String(decoding: list, as: UTF8.self)) {
                nodeOfProcessor[processor] = node
            }
        }
        nodes.sort()
        if nodes.isEmpty { nodes = [0] }
    }

    package func node(ofProcessor processor: Int) -> Int? {
        nodes.count == 1 ? nodes[0] : nodeOfProcessor[processor]
    }

    /// "0-3,8,10-11", as the kernel lists processors and nodes.
    package static func numbers(in list: String) -> [Int] {
        list.split { $0 == "," || $0 == "\n" }.flatMap { part -> [Int] in
            let ends = part.split(separator: "-").compactMap { Int($0) }
            guard let first = ends.first, let last = ends.last, ends.count <= 2, first <= last,
                last < 1 << 16
            else { return [] }
            return Array(first...last)
        }
    }
}

/// Where the kernel was told to put the pages of a mapping: the second word of its line in
/// /proc/PID/numa_maps.
package struct NodePolicies: Equatable, Sendable {
    private var starts: [UInt64] = []
    private var policies: [String] = []

    /// Lines are "address policy details".
    ///
    /// The kernel counts a mapping's pages to write its line, and holds the address space for it:
    /// ask only where there is more than one node.
    package init?(of pid: Int32) {
        guard let text = Descriptor.contents(of: "/proc/\(pid)/numa_maps", limit: 1 << 28) else {
            return nil
        }
        self.init(text)
    }

    package init(_ text: [UInt8]) {
        for line in text.split(separator: UInt8(ascii: "\n")) {
            let words = line.split(separator: UInt8(ascii: " "), maxSplits: 2)
            guard words.count >= 2,
                let start = UInt64(String(decoding: words[0], as: UTF8.self), radix: 16),
                start >= starts.last ?? 0
            else { continue }
            starts.append(start)
            policies.append(String(decoding: words[1], as: UTF8.self))
        }
    }

    /// Of the mapping that begins last before `address`.
    package func policy(at address: UInt64) -> String? {
        let index = starts.prefixCount { $0 <= address }
        return index > 0 ? policies[index - 1] : nil
    }
}
