// SPDX-License-Identifier: MIT
import HeapImage
import Symbols

/// Chooses and orders the rows of a stack table, naming no more frames than the choice needs.
///
/// The order is total: by one number, then by another, then by the text of the stack. Text
/// is needed only where numbers tie, so names are asked for the rows that are shown and for those
/// that tie with the last of them. A row that has parts stands for all of them, and they follow it;
/// rows of mappings follow those of the heap, and are limited for themselves.
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
    /// By row: what it and its parts counted.
    private let sums: [StackCounts]
    private let estimates: [Estimate?]
    private let parts: [Int: [Int]]

    init(
        table: StackTable, order: TraceReport.Order, name: @escaping (UInt64, UInt32) -> [Location]
    ) {
        self.table = table
        self.order = order
        self.name = name
        placeOfFrame = Array(repeating: -1, count: table.frames.count)
        var sums = table.rows.map(\.counts)
        var estimates = table.rows.map(\.estimate)
        var parts: [Int: [Int]] = [:]
        for (index, row) in table.rows.enumerated() {
            guard let parent = row.parent.map(Int.init) else { continue }
            sums[parent].add(row.counts)
            if let estimate = row.estimate { estimates[parent]?.add(estimate) }
            parts[parent, default: []].append(index)
        }
        self.sums = sums
        self.estimates = estimates
        self.parts = parts
    }

    mutating func choose(limit: Int?, where isWanted: (StackCounts) -> Bool) {
        for isMapped in [false, true] {
            let rows = table.rows.indices.filter {
                let row = table.rows[$0]
                return row.isMapped == isMapped && row.parent == nil && isWanted(sums[$0])
            }
            choose(of: rows, limit: limit)
        }
    }

    private mutating func choose(of rows: [Int], limit: Int?) {
        var keys = rows.map { row in
            let key = order.keys(sums[row])
            return (first: key.first, second: key.second, row: row)
        }
        rowCount += keys.count
        keys.sort { ($1.first, $1.second, $0.row) < ($0.first, $0.second, $1.row) }
        let wanted = min(limit ?? keys.count, keys.count)
        var end = wanted
        while end > 0, end < keys.count, keys[end].first == keys[end - 1].first,
            keys[end].second == keys[end - 1].second
        {
            end += 1
        }
        let start = chosen.count
        chosen += keys[..<end].map(\.row)
        framesOfChosen += chosen[start...].map { framePlaces(of: table.rows[$0]) }
        settleTies(keys[..<end].map { ($0.first, $0.second) }, from: start)
        chosen.removeLast(end - wanted)
        framesOfChosen.removeLast(end - wanted)
        addParts(from: start)
    }

    /// Behind each row its parts, ordered as rows are.
    private mutating func addParts(from start: Int) {
        guard !parts.isEmpty else { return }
        for index in chosen.indices[start...].reversed() {
            let keys = (parts[chosen[index]] ?? []).filter { table.rows[$0].counts.allocs > 0 }
                .map { (key: order.keys(table.rows[$0].counts), row: $0) }
            let sorted = keys.sorted {
                ($1.key.first, $1.key.second, $0.row) < ($0.key.first, $0.key.second, $1.row)
            }.map(\.row)
            chosen.insert(contentsOf: sorted, at: index + 1)
            framesOfChosen.insert(
                contentsOf: sorted.map { framePlaces(of: table.rows[$0]) }, at: index + 1)
        }
    }

    func rows(samples: [UInt64], pinned: [UInt64]? = nil) -> [TraceReport.Row] {
        chosen.indices.map { index in
            let row = table.rows[chosen[index]]
            let members = [chosen[index]] + (parts[chosen[index]] ?? [])
            var shown = TraceReport.Row(
                stack: row.stack, counts: sums[chosen[index]],
                sample: members.lazy.filter { $0 < samples.count }.map { samples[$0] }
                    .first { $0 != 0 } ?? 0,
                frames: framesOfChosen[index], isCut: row.isCut, isStopped: row.isStopped,
                isOverflow: row.isOverflow)
            shown.isMapped = row.isMapped
            shown.isDeepened = row.isDeepened
            shown.partOf = row.parent.map { table.rows[Int($0)].stack }
            shown.estimate = estimates[chosen[index]]
            shown.pinned = pinned.map { pinned in
                members.reduce(0) { $0.plus($1 < pinned.count ? pinned[$1] : 0) }
            }
            return shown
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
    ///
    /// The rows of these keys are those from `start` on.
    private mutating func settleTies(_ keys: [(UInt64, UInt64)], from start: Int) {
        var rank: [Int]?
        var first = 0
        while first < keys.count {
            var end = first + 1
            while end < keys.count, keys[end] == keys[first] { end += 1 }
            defer { first = end }
            guard end - first > 1 else { continue }
            let ranks = rank ?? Self.ranks(places)
            rank = ranks
            let range = (start + first)..<(start + end)
            let tied = range.sorted { left, right in
                let order = Self.compare(framesOfChosen[left], framesOfChosen[right], ranks)
                return order == 0 ? left < right : order < 0
            }
            let rows = tied.map { chosen[$0] }
            let frames = tied.map { framesOfChosen[$0] }
            chosen.replaceSubrange(range, with: rows)
            framesOfChosen.replaceSubrange(range, with: frames)
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
