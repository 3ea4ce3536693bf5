// SPDX-License-Identifier: MIT
import CRegion

/// The rows that threads without a shard count in together.
///
/// Few stacks have one, so they lie in the order in which they came up, and each stack has a place that names its
/// own.
struct CommonRows {
    private static let placesAtOnce = 65536

    private let rows: NarrowRows
    /// The stack of each row; 0: of none, or of one that came later.
    private let owners: [Int]

    /// Of the stacks below `stackCount`.
    init(
        _ bytes: some RegionBytes, _ header: RegionHeader, _ stackCount: Int
    ) throws(HeapImageError) {
        rows = NarrowRows(header.common)
        owners = try Self.owners(bytes, header, stackCount)
    }

    func forEach(
        in bytes: some RegionBytes, _ body: (Int, mc_region_counters) -> Void
    ) throws(HeapImageError) {
        try rows.forEach(in: bytes, owners.count) { row, counters in
            if owners[row] > 0 { body(owners[row], counters) }
        }
    }

    private static func owners(
        _ bytes: some RegionBytes, _ header: RegionHeader, _ stackCount: Int
    ) throws(HeapImageError) -> [Int] {
        let places = try places(bytes, header, stackCount)
        guard let last = places.map(\.row).max() else { return [] }
        var claimed = header.common
        claimed.count = UInt64(last) + 1
        try bytes.check(
            claimed, named: "common counters",
            recordSize: UInt64(MemoryLayout<mc_region_narrow>.stride), atMost: rowLimit)
        var owners = [Int](repeating: 0, count: Int(last) + 1)
        for place in places { owners[Int(place.row)] = place.stack }
        return owners
    }

    /// As many as there can be stacks.
    private static var rowLimit: UInt64 { 1 << UInt64(MC_TAG_STACK_BITS) }

    /// Of the stacks that have a row.
    private static func places(
        _ bytes: some RegionBytes, _ header: RegionHeader, _ stackCount: Int
    ) throws(HeapImageError) -> [(stack: Int, row: UInt32)] {
        var places: [(stack: Int, row: UInt32)] = []
        var part = [UInt32](repeating: 0, count: min(placesAtOnce, stackCount))
        var first = 0
        while first < stackCount {
            let wanted = min(part.count, stackCount - first)
            var got = 0
            try withBytes(of: &part) { (buffer) throws(HeapImageError) in
                let limited = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(wanted * 4)])
                let start = header.places.offset.plus(UInt64(first * 4))
                got = try bytes.read(at: start, into: limited) / 4
            }
            for index in 0..<got where part[index] > 0 {
                places.append((first + index, part[index]))
            }
            if got < wanted { break }
            first += wanted
        }
        return places
    }
}
