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
    /// What live slots have beyond what was asked for.
    package var waste: UInt64 { liveUsable.minus(liveBytes) }
    /// Of what was freed; nil: nothing was.
    package var meanLifetimeNanoseconds: UInt64? {
        frees == 0 ? nil : lifetimes.times(TaggedSlot.birthNanoseconds) / frees
    }

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
    /// Of the sampled ones.
    private(set) var estimates: [UInt32: Estimate] = [:]
    /// Allocations and frees counted when the reading began, of all stacks.
    private(set) var activity: UInt64 = 0

    /// `intervals` has one number a stack, 0 for those that are not sampled.
    init(
        _ bytes: some RegionBytes, _ header: RegionHeader, intervals: [UInt8]
    ) throws(HeapImageError) {
        let stackCount = intervals.count
        counts = Array(repeating: StackCounts(), count: stackCount)
        guard try Self.checkAll(bytes, header, stackCount) else { return }
        try Self.forEachRow(bytes, header, stackCount) { id, record in
            counts[id].frees &+= record.frees
            counts[id].bytesOut &+= record.bytes_out
            counts[id].usableOut &+= record.usable_out
            counts[id].lifetimes &+= record.lifetimes
            counts[id].temporary &+= record.temporary
            activity &+= record.activity(intervals[id])
        }
        try Self.forEachRow(bytes, header, stackCount) { id, record in
            counts[id].allocs &+= record.allocs
            counts[id].bytesIn &+= record.bytes_in
            counts[id].usableIn &+= record.usable_in
        }
        for (id, interval) in intervals.enumerated() where interval > 0 {
            estimates[UInt32(id)] = Estimate()
            counts[id] = counts[id].inObjects
        }
        guard !estimates.isEmpty,
            try Self.check(
                bytes, header.samples, mc_region_samples.self, stackCount, named: "samples")
        else { return }
        try Self.forEach(
            bytes, from: header.samples.offset, stackCount, zero: mc_region_samples()
        ) { id, record in
            guard intervals[id] > 0 else { return }
            estimates[UInt32(id)] = Estimate(record, interval: UInt32(intervals[id]))
        }
    }

    static func activity(
        _ bytes: some RegionBytes, _ header: RegionHeader, intervals: [UInt8]
    ) throws(HeapImageError) -> UInt64 {
        var activity: UInt64 = 0
        guard try checkAll(bytes, header, intervals.count) else { return 0 }
        try forEachRow(bytes, header, intervals.count) {
            activity &+= $1.activity(intervals[$0])
        }
        return activity
    }

    /// All that `forEachRow` reads.
    private static func checkAll(
        _ bytes: some RegionBytes, _ header: RegionHeader, _ stackCount: Int
    ) throws(HeapImageError) -> Bool {
        let (rows, common) = (mc_region_counters.self, mc_region_narrow.self)
        guard try check(bytes, header.counters, rows, stackCount, named: "counters"),
            try check(bytes, header.common, common, stackCount, named: "common counters")
        else { return false }
        return try check(bytes, header.places, UInt32.self, stackCount, named: "places")
    }

    /// Tells whether there are any; throws where they can't be those of the stacks.
    private static func check<Record>(
        _ bytes: some RegionBytes, _ area: RegionHeader.Area, _ type: Record.Type,
        _ stackCount: Int, named name: String
    ) throws(HeapImageError) -> Bool {
        guard stackCount > 0, area.offset != 0 else { return false }
        let size = UInt64(MemoryLayout<Record>.stride)
        guard area.recordSize == size, area.offset % 8 == 0,
            area.offset >= UInt64(MC_REGION_PAGE), area.capacity >= UInt64(stackCount)
        else {
            throw .damagedRegion(path: bytes.path, why: "the \(name) do not fit the stacks")
        }
        return true
    }

    private static func forEachRow(
        _ bytes: some RegionBytes, _ header: RegionHeader, _ stackCount: Int,
        _ body: (Int, mc_region_counters) -> Void
    ) throws(HeapImageError) {
        let area = header.counters
        try forEach(
            bytes, from: area.offset, stackCount, zero: mc_region_counters(), body)
        try CommonRows(bytes, header, stackCount).forEach(in: bytes, body)
        for shard in 1..<(try bytes.shardsInUse(header)) {
            try NarrowRows(area, shard: shard).forEach(in: bytes, stackCount, body)
        }
    }

    private static func forEach<Record: BitwiseCopyable>(
        _ bytes: some RegionBytes, from start: UInt64, _ stackCount: Int, zero: Record,
        _ body: (Int, Record) -> Void
    ) throws(HeapImageError) {
        let size = MemoryLayout<Record>.stride
        var part = [Record](repeating: zero, count: min(16384, stackCount))
        var first = 0
        while first < stackCount {
            let wanted = min(part.count, stackCount - first)
            var got = 0
            try withBytes(of: &part) { (buffer) throws(HeapImageError) in
                let limited = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(wanted * size)])
                got =
                    try bytes.read(at: start.plus(UInt64(first * size)), into: limited) / size
            }
            for index in 0..<got { body(first + index, part[index]) }
            if got < wanted { break }
            first += wanted
        }
    }
}

extension RegionBytes {
    /// Those of the header and what threads have taken since: what one of these counts in, another may count out.
    fileprivate func shardsInUse(_ header: RegionHeader) throws(HeapImageError) -> UInt64 {
        let now = Int(try now(\.shards))
        return UInt64(max(header.shards, min(now, Int(MC_REGION_SHARDS))))
    }
}

extension mc_region_counters {
    /// Allocations and frees; of a sampled stack, what they are estimated to be.
    fileprivate func activity(_ interval: UInt8) -> UInt64 {
        interval == 0 ? allocs &+ frees : (allocs &+ frees) / UInt64(MC_SAMPLE_UNIT)
    }
}
