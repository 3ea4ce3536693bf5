// SPDX-License-Identifier: MIT
import HeapImage

/// A stretch of time: what was born in it and lives when it is looked at.
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
    ///
    /// Stacks below the floor are shown as well: their slots were handed out in the window all the
    /// same.
    package func table(
        _ entry: RegionEntry, _ memory: some MemorySource
    ) throws(HeapImageError) -> (table: StackTable, samples: [UInt64]) {
        try SlotFilter(births: first..<max(first, end)).table(entry, memory, fromFloor: false)
    }
}
