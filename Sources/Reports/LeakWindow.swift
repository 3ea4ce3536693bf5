// SPDX-License-Identifier: MIT
import HeapImage

/// Sums what was born in a stretch of time and lives when it is looked at, by the tags of the heap.
///
/// A tag says in which quarter of a second its slot was handed out, so a window of whole quarters
/// is exact: a slot belongs to it or not, whatever was freed or reused meanwhile.
package struct LeakWindow: Equatable, Sendable {
    /// Quarters of a second since the process started: from `first`, before `end`.
    package var first: UInt64
    package var end: UInt64

    package init(first: UInt64, end: UInt64) {
        self.first = first
        self.end = end
    }

    package var nanoseconds: UInt64 { end.minus(first).times(TaggedSlot.birthNanoseconds) }

    /// A table of the slots in the window: allocs are those found, nothing is freed.
    package func table(
        _ entry: RegionEntry, _ memory: some MemorySource
    ) throws(HeapImageError) -> (table: StackTable, samples: [UInt64]) {
        let heap = try HeapWalk(memory, root: entry.header.heapRoot)
        var counts: [UInt32: (counts: StackCounts, sample: UInt64)] = [:]
        try heap.forEachTagged(memory) { slot in
            guard slot.birth >= first, slot.birth < end else { return true }
            var found = counts[slot.stack] ?? (StackCounts(), slot.address)
            found.counts.add(
                StackCounts(allocs: 1, bytesIn: slot.requested, usableIn: slot.usable))
            counts[slot.stack] = found
            return true
        }
        // Read after the tags: every stack they name is in the table by now. Stacks below the floor
        // are shown as well: their slots were handed out in the window all the same.
        var header = try entry.file.header()
        header.floor = 0
        var table = try StackTable(entry.file, header)
        var samples = [UInt64](repeating: 0, count: table.rows.count)
        for (stack, found) in counts where Int(stack) < table.rowOfStack.count {
            let row = Int(table.rowOfStack[Int(stack)])
            if row >= 0 { samples[row] = found.sample }
        }
        table.replaceCounts(counts.mapValues(\.counts))
        return (table, samples)
    }
}
