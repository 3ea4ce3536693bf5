// SPDX-License-Identifier: MIT

/// Who points at some addresses: every aligned word of a process' writable memory, and its
/// registers, compared with them.
///
/// The process runs on: what moves meanwhile may be missed or seen twice. Only memory that the
/// process has used is read. Cost: about as long as copying its resident memory takes.
package struct ReferenceScan: Sendable {
    package enum Holder: Equatable, Sendable {
        case memory(address: UInt64)
        case register(tid: Int32, name: String)
    }

    package struct Reference: Equatable, Sendable {
        package var holder: Holder
        package var value: UInt64
        /// Which of the targets.
        package var target: Int
    }

    package private(set) var references: [Reference] = []
    /// By target: those found, kept or not.
    package private(set) var counts: [UInt64]
    package private(set) var scannedBytes: UInt64 = 0

    /// Kept of each target.
    private static let limit: UInt64 = 10_000
    private static let portion = 4 << 20

    private let targets: [Range<UInt64>]
    private let low: UInt64
    private let high: UInt64

    /// Words in `skipping` refer to nothing.
    ///
    /// `progress` is called now and then with the bytes done.
    package init(
        _ memory: some MemorySource, in mappings: [Mapping], targets: [Range<UInt64>],
        skipping: [Range<UInt64>], registers: [ThreadRegisters.Register],
        progress: (UInt64) -> Void
    ) throws(HeapImageError) {
        self.targets = targets
        low = targets.map(\.lowerBound).min() ?? 0
        high = targets.map(\.upperBound).max() ?? 0
        counts = Array(repeating: 0, count: targets.count)
        for register in registers where !["rip", "eflags", "pc"].contains(register.name) {
            note(register.value, .register(tid: register.tid, name: register.name))
        }
        let skipped = Self.merged(skipping)
        var buffer = [UInt64](repeating: 0, count: Self.portion / 8)
        for mapping in mappings where Self.mayHold(mapping) {
            var position = mapping.range.lowerBound
            while position < mapping.range.upperBound {
                // Some of it at a time, so that the process' own mappings are not held up.
                let size = min(UInt64(64 << 20), mapping.range.upperBound - position)
                for part in memory.populated(MemoryRange(start: position, size: Int(size))) {
                    try scan(part, memory, &buffer, skipped, progress)
                }
                position += size
            }
        }
    }

    /// In order and disjoint.
    private static func merged(_ ranges: [Range<UInt64>]) -> [Range<UInt64>] {
        var merged: [Range<UInt64>] = []
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = merged.last, range.lowerBound <= last.upperBound {
                merged[merged.count - 1] =
                    last.lowerBound..<max(last.upperBound, range.upperBound)
            } else {
                merged.append(range)
            }
        }
        return merged
    }

    /// Not memory of devices, which may do something when it is read.
    private static func mayHold(_ mapping: Mapping) -> Bool {
        guard mapping.permissions.hasPrefix("rw") else { return false }
        return !mapping.name.hasPrefix("/dev/") || mapping.name.hasPrefix("/dev/shm/")
            || mapping.name.hasPrefix("/dev/zero")
    }

    private mutating func scan(
        _ range: MemoryRange, _ memory: some MemorySource, _ buffer: inout [UInt64],
        _ skipped: [Range<UInt64>], _ progress: (UInt64) -> Void
    ) throws(HeapImageError) {
        var position = range.start
        let end = range.start + UInt64(range.size)
        while position < end {
            let size = Int(min(UInt64(Self.portion), end - position))
            var isThere = false
            try withBytes(of: &buffer) { (bytes) throws(HeapImageError) in
                let part = UnsafeMutableRawBufferPointer(rebasing: bytes[..<size])
                isThere = try memory.attempt { () throws(HeapImageError) in
                    try memory.read(position, into: part)
                }
            }
            if isThere { look(at: buffer, count: size / 8, from: position, skipped) }
            position += UInt64(size)
            scannedBytes += UInt64(size)
            progress(scannedBytes)
        }
    }

    private mutating func look(
        at words: [UInt64], count: Int, from start: UInt64, _ skipped: [Range<UInt64>]
    ) {
        let (low, width) = (self.low, high - self.low)
        var hits: [Int] = []
        words.withUnsafeBufferPointer { words in
            for index in 0..<count where words[index] &- low < width { hits.append(index) }
        }
        for index in hits {
            let address = start + UInt64(index) * 8
            let before = skipped.prefixCount { $0.lowerBound <= address }
            if before > 0, skipped[before - 1].contains(address) { continue }
            note(words[index], .memory(address: address))
        }
    }

    private mutating func note(_ value: UInt64, _ holder: Holder) {
        for (index, target) in targets.enumerated() where target.contains(value) {
            counts[index] += 1
            guard counts[index] <= Self.limit else { continue }
            references.append(Reference(holder: holder, value: value, target: index))
        }
    }
}
