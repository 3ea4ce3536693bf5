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
        var owners: [Int] = []
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
                let row = Int(part[index])
                guard UInt64(row) < header.common.capacity else {
                    throw .damagedRegion(
                        path: bytes.path, why: "stack \(first + index) counts in row \(row)")
                }
                if row >= owners.count {
                    owners.append(contentsOf: repeatElement(0, count: row + 1 - owners.count))
                }
                owners[row] = first + index
            }
            if got < wanted { break }
            first += wanted
        }
        return owners
    }
}
