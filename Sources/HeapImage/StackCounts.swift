// SPDX-License-Identifier: MIT
import CRegion

/// The counters of a stack, summed over all shards.
///
/// They only grow; live = in - out.
package struct StackCounts: Equatable, Sendable {
    package var allocs: UInt64 = 0
    package var frees: UInt64 = 0
    package var bytesIn: UInt64 = 0
    package var bytesOut: UInt64 = 0
    package var usableIn: UInt64 = 0
    package var usableOut: UInt64 = 0
    /// Of what was freed, in quarters of a second (`TaggedSlot.birthNanoseconds`).
    package var lifetimes: UInt64 = 0
    /// Of what was freed, how much lived less than two of them.
    package var temporary: UInt64 = 0

    package init(
        allocs: UInt64 = 0, frees: UInt64 = 0, bytesIn: UInt64 = 0, bytesOut: UInt64 = 0,
        usableIn: UInt64 = 0, usableOut: UInt64 = 0, lifetimes: UInt64 = 0, temporary: UInt64 = 0
    ) {
        self.allocs = allocs
        self.frees = frees
        self.bytesIn = bytesIn
        self.bytesOut = bytesOut
        self.usableIn = usableIn
        self.usableOut = usableOut
        self.lifetimes = lifetimes
        self.temporary = temporary
    }

    package var live: UInt64 { allocs.minus(frees) }
    package var liveBytes: UInt64 { bytesIn.minus(bytesOut) }
    package var liveUsable: UInt64 { usableIn.minus(usableOut) }

    package mutating func add(_ other: StackCounts) {
        allocs = allocs.plus(other.allocs)
        frees = frees.plus(other.frees)
        bytesIn = bytesIn.plus(other.bytesIn)
        bytesOut = bytesOut.plus(other.bytesOut)
        usableIn = usableIn.plus(other.usableIn)
        usableOut = usableOut.plus(other.usableOut)
        lifetimes = lifetimes.plus(other.lifetimes)
        temporary = temporary.plus(other.temporary)
    }
}

/// Reads the counters of all stacks while the process goes on counting.
///
/// First every `out` of every shard, then every `in`: what left was counted in before it was
/// counted out, so no live number comes out negative, however long the reading takes.
struct StackCountsReader {
    /// By stack id.
    private(set) var counts: [StackCounts]
    /// Allocations and frees counted when the reading began, of all stacks.
    private(set) var activity: UInt64 = 0

    init(
        _ bytes: some RegionBytes, _ header: RegionHeader, stackCount: Int
    ) throws(HeapImageError) {
        counts = Array(repeating: StackCounts(), count: stackCount)
        let area = header.counters
        guard stackCount > 0, area.offset != 0 else { return }
        let size = UInt64(MemoryLayout<mc_region_counters>.stride)
        guard area.recordSize == size, area.offset % 8 == 0,
            area.offset >= UInt64(MC_REGION_PAGE), area.capacity >= UInt64(stackCount)
        else {
            throw .damagedRegion(path: bytes.path, why: "the counters do not fit the stacks")
        }
        try Self.forEach(bytes, header, stackCount) { id, record in
            counts[id].frees &+= record.frees
            counts[id].bytesOut &+= record.bytes_out
            counts[id].usableOut &+= record.usable_out
            counts[id].lifetimes &+= record.lifetimes
            counts[id].temporary &+= record.temporary
            activity &+= record.allocs &+ record.frees
        }
        try Self.forEach(bytes, header, stackCount) { id, record in
            counts[id].allocs &+= record.allocs
            counts[id].bytesIn &+= record.bytes_in
            counts[id].usableIn &+= record.usable_in
        }
    }

    static func forEach(
        _ bytes: some RegionBytes, _ header: RegionHeader, _ stackCount: Int,
        _ body: (Int, mc_region_counters) -> Void
    ) throws(HeapImageError) {
        let area = header.counters
        let size = area.recordSize
        let step = 16384
        var part = [mc_region_counters](
            repeating: mc_region_counters(), count: min(step, stackCount))
        for shard in 0..<UInt64(header.shards) {
            let start = area.offset.plus(shard.times(area.capacity).times(size))
            var first = 0
            while first < stackCount {
                let wanted = min(step, stackCount - first)
                var got = 0
                try withBytes(of: &part) { (buffer) throws(HeapImageError) in
                    let limited = UnsafeMutableRawBufferPointer(
                        rebasing: buffer[..<(wanted * Int(size))])
                    got =
                        try bytes.read(
                            at: start.plus(UInt64(first).times(size)), into: limited) / Int(size)
                }
                // A shard that nobody counted in may lie beyond the end: it holds zeros.
                for index in 0..<got { body(first + index, part[index]) }
                if got < wanted { break }
                first += wanted
            }
        }
    }
}
