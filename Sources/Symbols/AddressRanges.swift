// SPDX-License-Identifier: MIT

/// Address ranges, each with a value; they may nest and overlap.
///
/// Sorted by start, longer first where starts are equal; `reach[i]` is the largest end among the
/// first i + 1, so that a search for what contains an address walks back no further than needed.
struct AddressRanges {
    private struct Entry {
        let low: UInt64
        let high: UInt64
        let value: Int
    }
    private var entries: [Entry] = []
    private var reach: [UInt64] = []

    var isEmpty: Bool { entries.isEmpty }

    mutating func add(_ low: UInt64, _ high: UInt64, value: Int) {
        entries.append(Entry(low: low, high: high, value: value))
    }

    /// To be called once, after the last `add`.
    mutating func sort() {
        entries.sort {
            ($0.low, $1.high, $0.value) < ($1.low, $0.high, $1.value)
        }
        var furthest: UInt64 = 0
        reach = entries.map {
            furthest = max(furthest, $0.high)
            return furthest
        }
    }

    /// Calls `body` for every range that contains `address`, innermost first, until it returns true.
    @discardableResult
    func search(_ address: UInt64, _ body: (_ value: Int, _ low: UInt64) -> Bool) -> Bool {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = low + (high - low) / 2
            if entries[middle].low <= address { low = middle + 1 } else { high = middle }
        }
        while low > 0, reach[low - 1] > address {
            low -= 1
            let entry = entries[low]
            if address < entry.high, body(entry.value, entry.low) { return true }
        }
        return false
    }
}
