// SPDX-License-Identifier: MIT
import CRegion

/// What a region has recorded: one row per backtrace, with its counters.
///
/// Stacks that read the same are one row: threads may have raced to record one, a reset gives a
/// stack a new id, and the library's own innermost frames are never shown.
package struct StackTable: Sendable {
    package struct Row: Equatable, Sendable {
        /// Smallest id of the stacks in this row.
        package var stack: UInt32
        /// Innermost frame to show; 0: none is known.
        package var frame: UInt32
        /// Deeper than the depth wanted: outer frames are missing.
        package var isCut: Bool
        /// Outer frames are missing behind one without unwind information.
        package var isStopped: Bool
        /// Stacks that found the table full, together.
        package var isOverflow: Bool
        package var counts: StackCounts

        package init(
            stack: UInt32, frame: UInt32, isCut: Bool = false, isStopped: Bool = false,
            isOverflow: Bool = false, counts: StackCounts
        ) {
            self.stack = stack
            self.frame = frame
            self.isCut = isCut
            self.isStopped = isStopped
            self.isOverflow = isOverflow
            self.counts = counts
        }
    }

    package let frames: FrameTree
    /// In the order in which their stacks were first seen.
    package private(set) var rows: [Row] = []
    /// By stack id: its row, or -1 for stacks that are not shown (reset, or not there).
    package private(set) var rowOfStack: [Int32]
    /// Sums over all rows.
    package private(set) var total = StackCounts()
    /// Allocations and frees counted when the reading began; of stacks that are not shown, too.
    let activity: UInt64

    package init(_ bytes: some RegionBytes, _ header: RegionHeader) throws(HeapImageError) {
        let stacks = try bytes.records(
            header.stacks, named: "stacks", atMost: 1 << UInt64(MC_TAG_STACK_BITS),
            zero: mc_region_stack())
        frames = try FrameTree(bytes, header)
        let reader = try StackCountsReader(bytes, header, stackCount: stacks.count)
        activity = reader.activity
        rowOfStack = Array(repeating: -1, count: stacks.count)
        merge(stacks, reader.counts, header)
    }

    /// Allocations and frees counted by now, for the stacks there were when `header` was read.
    static func activity(
        _ bytes: some RegionBytes, _ header: RegionHeader
    ) throws(HeapImageError) -> UInt64 {
        var activity: UInt64 = 0
        guard header.counters.offset != 0 else { return 0 }
        try StackCountsReader.forEach(bytes, header, Int(clamping: header.stacks.count)) {
            activity &+= $1.allocs &+ $1.frees
        }
        return activity
    }

    private mutating func merge(
        _ stacks: [mc_region_stack], _ counts: [StackCounts], _ header: RegionHeader
    ) {
        let overflow = Int(MC_STACK_OVERFLOW)
        let first = Int(clamping: max(UInt64(overflow), header.floor))
        // Two rows a frame: whole and cut.
        var rowOfFrame = [Int32](repeating: -1, count: frames.count * 2)
        let library = header.libraryStart..<max(header.libraryStart, header.libraryEnd)
        for id in first..<max(first, stacks.count) {
            let isOverflow = id == overflow
            if isOverflow, counts[id].allocs == 0 { continue }
            let flags = Int32(stacks[id].flags)
            let isCut = flags & Int32(MC_STACK_CUT) != 0
            let shown = frames.innermost(from: isOverflow ? 0 : stacks[id].frame) {
                $0 != 0 && library.contains($0 - 1)
            }
            let frame = frames.representative(shown)
            total.add(counts[id])
            let key = Int(frame) * 2 + (isCut ? 1 : 0)
            if !isOverflow, frame != 0, rowOfFrame[key] >= 0 {
                let row = Int(rowOfFrame[key])
                rows[row].counts.add(counts[id])
                rowOfStack[id] = Int32(row)
                continue
            }
            if !isOverflow, frame != 0 { rowOfFrame[key] = Int32(rows.count) }
            rowOfStack[id] = Int32(rows.count)
            rows.append(
                Row(
                    stack: UInt32(id), frame: frame, isCut: isCut,
                    isStopped: flags & Int32(MC_STACK_STOPPED) != 0,
                    isOverflow: isOverflow, counts: counts[id]))
        }
    }
}

extension StackTable {
    /// The same rows with other counts, given by stack id; stacks that are not in it count nothing.
    package mutating func replaceCounts(_ counts: [UInt32: StackCounts]) {
        total = StackCounts()
        for index in rows.indices { rows[index].counts = StackCounts() }
        for (stack, sum) in counts where Int(stack) < rowOfStack.count {
            let row = Int(rowOfStack[Int(stack)])
            guard row >= 0 else { continue }
            rows[row].counts.add(sum)
            total.add(sum)
        }
    }
}
