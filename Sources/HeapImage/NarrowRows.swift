// SPDX-License-Identifier: MIT
import CRegion

/// The rows of a shard that one thread has for itself, or those of all others: counters modulo 2^32, and their
/// turns, which say what is above.
///
/// A counter's value follows from the two words, if none of its turns was noted between the reading of one and
/// of the other. So turns are read before and after the counters; and not at all while none was ever noted.
struct NarrowRows {
    private static let rowsAtOnce = 16384

    private let rows: UInt64
    private let turns: UInt64

    init(_ area: RegionHeader.Area, shard: UInt64) {
        let run = area.capacity.times(area.recordSize)
        rows = area.offset.plus(shard.times(run))
        turns = rows.plus(run / 2)
    }

    init(_ area: RegionHeader.Area) {
        rows = area.offset
        turns = area.offset.plus(area.capacity.times(area.recordSize))
    }

    func forEach(
        in bytes: some RegionBytes, _ stackCount: Int, _ body: (Int, mc_region_counters) -> Void
    ) throws(HeapImageError) {
        var first = 0
        while first < stackCount {
            let count = min(Self.rowsAtOnce, stackCount - first)
            var counters = try read(rows, first, count, of: bytes)
            var noted = [mc_region_narrow](repeating: mc_region_narrow(), count: count)
            // Read after the counters: 0 then says that theirs were not noted.
            if try bytes.now(\.turns) > 0 {
                noted = try read(turns, first, count, of: bytes)
                counters = try read(rows, first, count, of: bytes)
                let after = try read(turns, first, count, of: bytes)
                for index in 0..<count where !noted[index].isSame(as: after[index]) {
                    (counters[index], noted[index]) = try settled(first + index, of: bytes)
                }
            }
            for index in 0..<count {
                body(first + index, mc_region_counters(counters[index], turns: noted[index]))
            }
            first += count
        }
    }

    /// One row whose thread is just noting turns; it does so once in a gibibyte or more.
    private func settled(
        _ index: Int, of bytes: some RegionBytes
    ) throws(HeapImageError) -> (counters: mc_region_narrow, turns: mc_region_narrow) {
        var before = try read(turns, index, 1, of: bytes)[0]
        for _ in 0..<1000 {
            let counters = try read(rows, index, 1, of: bytes)[0]
            let after = try read(turns, index, 1, of: bytes)[0]
            if before.isSame(as: after) { return (counters, after) }
            before = after
        }
        return (try read(rows, index, 1, of: bytes)[0], before)
    }

    /// A shard that nobody counted in may lie beyond the end: it holds zeros.
    private func read(
        _ start: UInt64, _ first: Int, _ count: Int, of bytes: some RegionBytes
    ) throws(HeapImageError) -> [mc_region_narrow] {
        var part = [mc_region_narrow](repeating: mc_region_narrow(), count: count)
        let size = UInt64(MemoryLayout<mc_region_narrow>.stride)
        try withBytes(of: &part) { (buffer) throws(HeapImageError) in
            _ = try bytes.read(at: start.plus(UInt64(first).times(size)), into: buffer)
        }
        return part
    }
}

extension mc_region_narrow {
    fileprivate func isSame(as other: mc_region_narrow) -> Bool {
        withUnsafeBytes(of: self) { one in
            withUnsafeBytes(of: other) { one.elementsEqual($0) }
        }
    }
}

extension mc_region_counters {
    fileprivate init(_ row: mc_region_narrow, turns: mc_region_narrow) {
        self.init(
            allocs: mc_narrow_value(row.allocs, turns.allocs),
            frees: mc_narrow_value(row.frees, turns.frees),
            bytes_in: mc_narrow_value(row.bytes_in, turns.bytes_in),
            bytes_out: mc_narrow_value(row.bytes_out, turns.bytes_out),
            usable_in: mc_narrow_value(row.usable_in, turns.usable_in),
            usable_out: mc_narrow_value(row.usable_out, turns.usable_out),
            lifetimes: mc_narrow_value(row.lifetimes, turns.lifetimes),
            temporary: mc_narrow_value(row.temporary, turns.temporary))
    }
}
