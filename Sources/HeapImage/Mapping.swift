// SPDX-License-Identifier: MIT

/// A line of /proc/PID/maps: addresses that a process may use, and what is behind them.
package struct Mapping: Equatable, Sendable {
    package var range: Range<UInt64>
    /// As the kernel writes them: "rw-p".
    package var permissions: String
    package var offset: UInt64
    /// As the C library packs st_dev.
    package var device: UInt64
    package var inode: UInt64
    /// A path, "[stack]" and the like, or "" for memory without a name.
    package var name: String

    package init(
        range: Range<UInt64>, permissions: String = "rw-p", offset: UInt64 = 0,
        device: UInt64 = 0, inode: UInt64 = 0, name: String = ""
    ) {
        self.range = range
        self.permissions = permissions
        self.offset = offset
        self.device = device
        self.inode = inode
        self.name = name
    }

    package var size: UInt64 { range.upperBound - range.lowerBound }
    package var isShared: Bool { permissions.hasSuffix("s") }
    package var isFile: Bool { inode != 0 }
    /// Pages of a hugetlbfs without a name: what mmap(2) with MAP_HUGETLB makes.
    var isHugetlb: Bool { name.hasPrefix("/anon_hugepage") }
    /// The kernel's own pages, which count as nobody's memory.
    var isKernels: Bool {
        name.hasPrefix("[vvar") || name == "[vsyscall]"
    }

    /// All mappings of a process, by address; nil when it may not be asked or has ended.
    ///
    /// The kernel holds the address space for some dozens of lines at a time.
    package static func all(of pid: Int32) -> [Mapping]? {
        guard let text = Descriptor.contents(of: "/proc/\(pid)/maps", limit: 1 << 28) else {
            return nil
        }
        return parse(text)
    }

    /// Lines that are not understood are left out; the rest is in order and does not overlap.
    package static func parse(_ text: [UInt8]) -> [Mapping] {
        var mappings: [Mapping] = []
        for line in text.split(separator: UInt8(ascii: "\n")) {
            guard let mapping = Mapping(line: line),
                mapping.range.lowerBound >= mappings.last?.range.upperBound ?? 0
            else { continue }
            mappings.append(mapping)
        }
        return mappings
    }

    /// `start-end perms offset major:minor inode path`, numbers in hex but for the inode.
    init?(line: ArraySlice<UInt8>) {
        let space = UInt8(ascii: " ")
        let parts = line.split(separator: space, maxSplits: 5, omittingEmptySubsequences: true)
        guard parts.count >= 5, parts[1].count == 4,
            let dash = parts[0].firstIndex(of: UInt8(ascii: "-")),
            let colon = parts[3].firstIndex(of: UInt8(ascii: ":"))
        else { return nil }
        func number(_ text: ArraySlice<UInt8>, _ radix: Int = 16) -> UInt64? {
            UInt64(String(decoding: text, as: UTF8.self), radix: radix)
        }
        guard let start = number(parts[0][..<dash]), let end = number(parts[0][(dash + 1)...]),
            start < end, let offset = number(parts[2]), let inode = number(parts[4], 10),
            let major = number(parts[3][..<colon]), let minor = number(parts[3][(colon + 1)...])
        else { return nil }
        let (low, high) = (minor & 0xff | (major & 0xfff) << 8, minor & ~0xff)
        self.init(
            range: start..<end, permissions: String(decoding: parts[1], as: UTF8.self),
            offset: offset, device: low | high << 12 | (major & ~0xfff) << 32, inode: inode,
            name: parts.count == 6
                ? String(decoding: parts[5].drop { $0 == space }, as: UTF8.self) : "")
    }
}
