// SPDX-License-Identifier: MIT
import HeapImage
import Symbols

/// Chooses and orders the rows of a stack table, naming no more frames than the choice needs.
///
/// The order is total: by bytes or count, then by the other, then by the text of the stack. Text
/// is needed only where numbers tie, so names are asked for the rows that are shown and for those
/// that tie with the last of them.
struct RowBuilder {
    let table: StackTable
    let order: TraceReport.Order
    let name: (UInt64, UInt32) -> [Location]
    private(set) var places: [Place] = []
    private(set) var rowCount = 0
    /// Rows of the table, in order.
    private var chosen: [Int] = []
    private var framesOfChosen: [[Int32]] = []
    private var placeOfFrame: [Int32]
    private var placeOfKey: [FrameTree.Frame: Int32] = [:]

    init(
        table: StackTable, order: TraceReport.Order, name: @escaping (UInt64, UInt32) -> [Location]
    ) {
        self.table = table
        self.order = order
        self.name = name
        placeOfFrame = Array(repeating: -1, count: table.frames.count)
    }

    mutating func choose(limit: Int?, where isWanted: (StackCounts) -> Bool) {
        var keys: [(first: UInt64, second: UInt64, row: Int)] = []
        for (index, row) in table.rows.enumerated() where isWanted(row.counts) {
            let counts = row.counts
            keys.append(
                order == .bytes
                    ? (counts.liveBytes, counts.live, index)
                    : (counts.live, counts.liveBytes, index))
        }
        rowCount = keys.count
        keys.sort { ($1.first, $1.second, $0.row) < ($0.first, $0.second, $1.row) }
        let wanted = min(limit ?? keys.count, keys.count)
        var end = wanted
        while end > 0, end < keys.count, keys[end].first == keys[end - 1].first,
            keys[end].second == keys[end - 1].second
        {
            end += 1
        }
        chosen = keys[..<end].map(\.row)
        framesOfChosen = chosen.map { framePlaces(of: table.rows[$0]) }
        settleTies(keys[..<end].map { ($0.first, $0.second) })
        chosen.removeLast(end - wanted)
        framesOfChosen.removeLast(end - wanted)
    }

    func rows(samples: [UInt64]) -> [TraceReport.Row] {
        chosen.indices.map { index in
            let row = table.rows[chosen[index]]
            return TraceReport.Row(
                stack: row.stack, counts: row.counts,
                sample: chosen[index] < samples.count ? samples[chosen[index]] : 0,
                frames: framesOfChosen[index], isCut: row.isCut, isStopped: row.isStopped,
                isOverflow: row.isOverflow)
        }
    }

    private mutating func framePlaces(of row: StackTable.Row) -> [Int32] {
        table.frames.path(from: row.frame).map { place(of: $0) }
    }

    private mutating func place(of frame: UInt32) -> Int32 {
        if placeOfFrame[Int(frame)] >= 0 { return placeOfFrame[Int(frame)] }
        let key = table.frames[frame]
        let index: Int32
        if let known = placeOfKey[key] {
            index = known
        } else {
            index = Int32(places.count)
            places.append(Place(pc: key.pc, locations: name(key.pc, key.epoch)))
            placeOfKey[key] = index
        }
        placeOfFrame[Int(frame)] = index
        return index
    }

    /// Orders rows with equal numbers by their text, compared through the rank of each place.
    private mutating func settleTies(_ keys: [(UInt64, UInt64)]) {
        var rank: [Int]?
        var first = 0
        while first < keys.count {
            var end = first + 1
            while end < keys.count, keys[end] == keys[first] { end += 1 }
            defer { first = end }
            guard end - first > 1 else { continue }
            let ranks = rank ?? Self.ranks(places)
            rank = ranks
            let tied = (first..<end).sorted { left, right in
                let order = Self.compare(framesOfChosen[left], framesOfChosen[right], ranks)
                return order == 0 ? left < right : order < 0
            }
            let rows = tied.map { chosen[$0] }
            let frames = tied.map { framesOfChosen[$0] }
            chosen.replaceSubrange(first..<end, with: rows)
            framesOfChosen.replaceSubrange(first..<end, with: frames)
        }
    }

    private static func ranks(_ places: [Place]) -> [Int] {
        let texts = places.map { $0.lines.joined(separator: "\n") }
        var ranks = [Int](repeating: 0, count: places.count)
        var rank = 0
        var previous: String?
        for index in texts.indices.sorted(by: { texts[$0] < texts[$1] }) {
            if let previous, previous != texts[index] { rank += 1 }
            ranks[index] = rank
            previous = texts[index]
        }
        return ranks
    }

    private static func compare(_ left: [Int32], _ right: [Int32], _ ranks: [Int]) -> Int {
        for index in 0..<min(left.count, right.count) {
            let difference = ranks[Int(left[index])] - ranks[Int(right[index])]
            if difference != 0 { return difference }
        }
        return left.count - right.count
    }
}
