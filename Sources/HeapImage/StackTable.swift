// SPDX-License-Identifier: MIT
import CRegion

/// What a region has recorded: one row per backtrace, with its counters.
///
/// Stacks that read the same are one row: threads may have raced to record one, a reset gives a
/// stack a new id, and the library's own innermost frames are never shown. Rows of another kind
/// (sampled, of mappings, parts of a deepened stack) stay apart all the same.
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
        /// Mappings, not objects of the heap.
        package var isMapped = false
        /// Its allocations are charged to parts of it from now on.
        package var isDeepened = false
        /// Of a deeper backtrace: the row it is a part of.
        package var parent: Int32?
        /// What the row itself counted, without its parts.
        package var counts: StackCounts
        /// Of a sampled row, whose counts are estimates.
        package var estimate: Estimate?

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
    /// Sums over all rows of the heap's objects that were counted one by one.
    package private(set) var total = StackCounts()
    /// Sums over the sampled rows; nil if there are none.
    package private(set) var sampled: (counts: StackCounts, estimate: Estimate)?
    /// Sums over the rows of mappings.
    package private(set) var mapped = StackCounts()
    /// Allocations and frees counted when the reading began; of stacks that are not shown, too.
    let activity: UInt64
    /// By stack id: its interval if it is sampled, else 0.
    private let intervals: [UInt8]

    package init(_ bytes: some RegionBytes, _ header: RegionHeader) throws(HeapImageError) {
        let stacks = try bytes.records(
            header.stacks, named: "stacks", atMost: 1 << UInt64(MC_TAG_STACK_BITS),
            zero: mc_region_stack())
        frames = try FrameTree(bytes, header)
        intervals = stacks.map(\.interval)
        let reader = try StackCountsReader(bytes, header, intervals: intervals)
        activity = reader.activity
        rowOfStack = Array(repeating: -1, count: stacks.count)
        merge(stacks, reader, header)
        findParents(stacks)
    }

    /// Of a sampled stack the power of two that its interval is; 0: it is not sampled.
    package func interval(ofStack stack: UInt32) -> UInt32 {
        Int(stack) < intervals.count ? UInt32(intervals[Int(stack)]) : 0
    }

    /// Allocations and frees counted by now, for the stacks there were when the table was read.
    func activityNow(
        _ bytes: some RegionBytes, _ header: RegionHeader
    ) throws(HeapImageError) -> UInt64 {
        try StackCountsReader.activity(bytes, header, intervals: intervals)
    }

    private mutating func merge(
        _ stacks: [mc_region_stack], _ reader: StackCountsReader, _ header: RegionHeader
    ) {
        let overflow = Int(MC_STACK_OVERFLOW)
        let first = Int(clamping: max(UInt64(overflow), header.floor))
        var finder = RowFinder(frameCount: frames.count)
        let library = header.libraryStart..<max(header.libraryStart, header.libraryEnd)
        for id in first..<max(first, stacks.count) {
            let isOverflow = id == overflow
            let counts = reader.counts[id]
            if isOverflow, counts.allocs == 0 { continue }
            let shown = frames.innermost(from: isOverflow ? 0 : stacks[id].frame) {
                $0 != 0 && library.contains($0 - 1)
            }
            let frame = frames.representative(shown)
            let next = Int32(rows.count)
            let row =
                isOverflow || frame == 0
                ? next : finder.row(of: frame, stacks[id].kind, else: next)
            rowOfStack[id] = row
            if row == next {
                rows.append(
                    Row(
                        stack: UInt32(id), frame: frame, isCut: stacks[id].has(MC_STACK_CUT),
                        isStopped: stacks[id].has(MC_STACK_STOPPED), isOverflow: isOverflow,
                        counts: StackCounts()))
                rows[Int(row)].isMapped = stacks[id].has(MC_STACK_MAPPED)
            }
            if stacks[id].has(MC_STACK_DEEPEN) { rows[Int(row)].isDeepened = true }
            add(counts, reader.estimates[UInt32(id)], to: Int(row))
        }
    }

    private mutating func add(_ counts: StackCounts, _ estimate: Estimate?, to row: Int) {
        rows[row].counts.add(counts)
        if let estimate {
            rows[row].estimate = rows[row].estimate ?? Estimate()
            rows[row].estimate?.add(estimate)
            var sum = sampled ?? (StackCounts(), Estimate())
            sum.counts.add(counts)
            sum.estimate.add(estimate)
            sampled = sum
        } else if rows[row].isMapped {
            mapped.add(counts)
        } else {
            total.add(counts)
        }
    }

    /// A part has the innermost frames of the row that it is a part of.
    private mutating func findParents(_ stacks: [mc_region_stack]) {
        var parents: [[FrameTree.Frame]: [UInt16: Int32]] = [:]
        var depths: Set<Int> = []
        for (id, row) in rowOfStack.enumerated() where row >= 0 && stacks[id].has(MC_STACK_SPLIT) {
            let path = frames.path(from: rows[Int(row)].frame).map { frames[$0] }
            depths.insert(path.count)
            parents[path, default: [:]][stacks[id].kindOfWhole] = row
        }
        guard let most = depths.max() else { return }
        let longestFirst = depths.sorted(by: >)
        for (id, row) in rowOfStack.enumerated()
        where row >= 0 && rows[Int(row)].parent == nil && stacks[id].has(MC_STACK_PART) {
            let path = frames.path(from: rows[Int(row)].frame, atMost: most).map { frames[$0] }
            let parent = longestFirst.lazy.filter { $0 <= path.count }.compactMap {
                parents[Array(path[..<$0])]?[stacks[id].kindOfWhole]
            }.first
            if let parent, parent != row { rows[Int(row)].parent = parent }
        }
    }
}

/// Which row a frame's stacks of one kind are in.
private struct RowFinder {
    private static let usualKinds = 2
    private var usual: [Int32]
    private var others: [UInt64: Int32] = [:]

    init(frameCount: Int) {
        usual = Array(repeating: -1, count: frameCount * Self.usualKinds)
    }

    /// The row that is known, or `next`, which then is.
    mutating func row(of frame: UInt32, _ kind: UInt16, else next: Int32) -> Int32 {
        // Whole and cut stacks are by far the most.
        if Int(kind) < Self.usualKinds {
            let key = Int(frame) * Self.usualKinds + Int(kind)
            if usual[key] < 0 { usual[key] = next }
            return usual[key]
        }
        let key = UInt64(frame) << 16 | UInt64(kind)
        if let known = others[key] { return known }
        others[key] = next
        return next
    }
}

extension mc_region_stack {
    func has<Flag: BinaryInteger>(_ flag: Flag) -> Bool { flags & UInt16(flag) != 0 }

    /// What keeps stacks with the same frames apart; 0 and 1: exact, of the heap, and not a part.
    var kind: UInt16 {
        (has(MC_STACK_CUT) ? 1 : 0) | (has(MC_STACK_PART) ? 2 : 0) | kindOfWhole
    }

    /// The same for the whole that a part belongs to.
    var kindOfWhole: UInt16 { (has(MC_STACK_SAMPLED) ? 4 : 0) | (has(MC_STACK_MAPPED) ? 8 : 0) }

    /// The power of two that a sampled stack's interval is; 0: not sampled, or not believable.
    var interval: UInt8 {
        let interval = flags >> UInt16(MC_STACK_INTERVAL_SHIFT)
        let known = UInt16(MC_SAMPLE_LEAST)...UInt16(MC_SAMPLE_MOST)
        return has(MC_STACK_SAMPLED) && known.contains(interval) ? UInt8(interval) : 0
    }
}

extension StackTable {
    /// The same rows with other counts, given by stack id; stacks that are not in it count nothing.
    package mutating func replaceCounts(_ counts: [UInt32: (StackCounts, Estimate?)]) {
        total = StackCounts()
        mapped = StackCounts()
        sampled = nil
        for index in rows.indices {
            rows[index].counts = StackCounts()
            rows[index].estimate = nil
        }
        for (stack, sum) in counts where Int(stack) < rowOfStack.count {
            let row = Int(rowOfStack[Int(stack)])
            if row >= 0 { add(sum.0, sum.1, to: row) }
        }
    }

    /// The ids in a row: what to flag so that its allocations are charged otherwise.
    package func stacks(inRow row: Int) -> [UInt32] {
        rowOfStack.indices.filter { Int(rowOfStack[$0]) == row }.map { UInt32($0) }
    }
}
