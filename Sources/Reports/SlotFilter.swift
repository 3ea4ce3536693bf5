// SPDX-License-Identifier: MIT
import HeapImage

/// Sums live slots by what their tags and spans say: when they were handed out, and to which thread.
///
/// A tag says in which quarter of a second its slot was handed out, so a range of whole quarters
/// is exact: a slot belongs to it or not, whatever was freed or reused meanwhile. The thread of a slot
/// is the one that owns its span: that which asked for it or, when that has ended, which took the
/// span over. A large slot has no span of a thread, so it belongs to none.
package struct SlotFilter: Equatable, Sendable {
    /// Quarters of a second since the region's `birthsFromNanoseconds`.
    package var births: Range<UInt64>
    /// The kernel's id of the thread; nil: any, or none.
    package var thread: UInt32?
    /// In words, for the report: "older than 60 s".
    package var description: String

    package init(births: Range<UInt64>, thread: UInt32? = nil, description: String = "") {
        self.births = births
        self.thread = thread
        self.description = description
    }

    /// Ages in nanoseconds, looked at from `now`: a slot is older when it surely is.
    package init(
        olderThan least: UInt64?, youngerThan most: UInt64?, thread: UInt32?,
        birthsFrom start: UInt64, now: UInt64
    ) {
        let quarter = TaggedSlot.birthNanoseconds
        let end = least.map { now.minus(start).minus($0) / quarter } ?? .max
        let first = most.map { now.minus(start).minus($0).plus(quarter - 1) / quarter } ?? 0
        var words: [String] = []
        if let least { words.append("older than \(Layout.seconds(least))") }
        if let most { words.append("younger than \(Layout.seconds(most))") }
        if let thread { words.append("of thread \(thread)") }
        self.init(
            births: first..<max(first, end), thread: thread,
            description: words.joined(separator: ", "))
    }

    /// A table of the slots in question: allocs are those found, nothing is freed.
    package func table(
        _ entry: RegionEntry, _ memory: some MemorySource, fromFloor: Bool = true
    ) throws(HeapImageError) -> (table: StackTable, samples: [UInt64]) {
        let heap = try HeapWalk(memory, root: entry.header.heapRoot)
        var found: [UInt32: [TaggedSlot]] = [:]
        var threads = ThreadNames(memory)
        try heap.forEachTagged(memory) { slot in
            guard births.contains(slot.birth),
                thread == nil || threads.kernelID(of: slot.owner) == thread
            else { return true }
            found[slot.stack, default: []].append(slot)
            return true
        }
        // Read after the tags: every stack they name is in the table by now.
        var header = try entry.file.header()
        if !fromFloor { header.floor = 0 }
        var table = try StackTable(entry.file, header)
        var samples = [UInt64](repeating: 0, count: table.rows.count)
        var sums: [UInt32: (StackCounts, Estimate?)] = [:]
        for (stack, slots) in found where Int(stack) < table.rowOfStack.count {
            let row = Int(table.rowOfStack[Int(stack)])
            if row >= 0, let first = slots.first { samples[row] = first.address }
            sums[stack] = Self.sum(slots, interval: table.interval(ofStack: stack))
        }
        table.replaceCounts(sums)
        return (table, samples)
    }

    private static func sum(
        _ slots: [TaggedSlot], interval: UInt32
    ) -> (StackCounts, Estimate?) {
        var counts = StackCounts()
        guard interval > 0 else {
            for slot in slots {
                counts.add(StackCounts(allocs: 1, bytesIn: slot.requested, usableIn: slot.usable))
            }
            return (counts, nil)
        }
        var (count, bytes, usable, sure) = (0.0, 0.0, 0.0, Estimate())
        for slot in slots {
            let one = Estimate.ofOne(
                requested: slot.requested, usable: slot.usable, interval: interval)
            count += one.count
            bytes += one.bytes
            usable += one.usable
            sure.add(one.3)
        }
        counts.allocs = Estimate.rounded(count)
        counts.bytesIn = Estimate.rounded(bytes)
        counts.usableIn = Estimate.rounded(usable)
        return (counts, sure)
    }
}
