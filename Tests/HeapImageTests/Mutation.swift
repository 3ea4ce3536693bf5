// SPDX-License-Identifier: MIT
import CRegion
import HeapImage

/// A small generator whose sequence a seed fixes, so that a failure can be had again.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }
}

/// Damage done to a valid region: bytes, words at places that matter, and cuts.
func mutated(_ valid: [UInt8], _ random: inout SplitMix) -> [UInt8] {
    var bytes = valid
    let areas = MemoryLayout<mc_region>.offset(of: \.areas) ?? 0
    for _ in 0..<Int.random(in: 1...6, using: &random) {
        let place: Int
        switch Int.random(in: 0..<4, using: &random) {
        case 0: place = areas + 8 * Int.random(in: 0..<20, using: &random)
        case 1: place = 8 * Int.random(in: 0..<26, using: &random)
        case 2: place = Int.random(in: 4096..<(bytes.count - 8), using: &random) & ~3
        default: place = Int.random(in: 0..<(bytes.count - 8), using: &random)
        }
        let value: UInt64
        switch Int.random(in: 0..<5, using: &random) {
        case 0: value = UInt64.random(in: 0...64, using: &random)
        case 1: value = .max - UInt64.random(in: 0...4096, using: &random)
        case 2: value = 1 << UInt64.random(in: 0..<64, using: &random)
        case 3: value = UInt64.random(in: 0...UInt64(bytes.count * 2), using: &random)
        default: value = random.next()
        }
        let width = [1, 2, 4, 8].randomElement(using: &random) ?? 8
        for index in 0..<width {
            bytes[place + index] = UInt8(truncatingIfNeeded: value >> (8 * index))
        }
    }
    if Int.random(in: 0..<8, using: &random) == 0 {
        bytes.removeLast(Int.random(in: 0...bytes.count, using: &random))
    }
    return bytes
}

/// Reads all of a region, as `show trace` does; returns the rows, or nil when it was refused.
func readWhole(_ region: some RegionBytes) throws(HeapImageError) -> Int {
    let header = try region.header()
    let modules = try region.modules(header)
    let table = try StackTable(region, header)
    var frames = 0
    for row in table.rows { frames += table.frames.path(from: row.frame).count }
    return table.rows.count + modules.count + frames
}
