// SPDX-License-Identifier: MIT
import CRegion

/// A live slot that tracing knows.
package struct TaggedSlot: Equatable, Sendable {
    package var address: UInt64
    package var stack: UInt32
    package var usable: UInt64
    package var requested: UInt64
    /// Quarters of a second since the region's `birthsFromNanoseconds`, modulo `birthLimit`.
    package var birth: UInt64
    /// Address of the thread whose span it lies in; 0 of a large or huge one.
    package var owner: UInt64
    /// Free bytes of its span, divided among the slots that live there: what can't be given back
    /// because of it.
    package var pinned: UInt64

    package init(
        address: UInt64, stack: UInt32, usable: UInt64, requested: UInt64, birth: UInt64,
        owner: UInt64 = 0, pinned: UInt64 = 0
    ) {
        self.address = address
        self.stack = stack
        self.usable = usable
        self.requested = requested
        self.birth = birth
        self.owner = owner
        self.pinned = pinned
    }

    package static let birthLimit: UInt64 = 1 << UInt64(MC_TAG_BIRTH_BITS)
    package static let birthNanoseconds: UInt64 = 250_000_000
}

extension HeapWalk {
    /// Visits every tagged slot, in the order of the spans; ends early when `body` returns false.
    ///
    /// A span whose tags can't be read any more (it was given back meanwhile) has none.
    package func forEachTagged(
        _ memory: some MemorySource, _ body: (TaggedSlot) -> Bool
    ) throws(HeapImageError) {
        for span in spans where span.tag != 0 && span.live > 0 {
            let slot = TaggedSlot(
                address: span.base, stack: mc_tag_stack(span.tag), usable: span.slotSize,
                requested: min(span.requested, span.slotSize), birth: mc_tag_birth(span.tag),
                owner: 0, pinned: 0)
            if !body(slot) { return }
        }
        let tagged = spans.indices.filter { spans[$0].live > 0 }.flatMap { number in
            spans[number].tagArrays.map { (span: number, array: $0) }
        }
        var next = 0
        while next < tagged.count {
            // Some megabytes a call: one system call reads the tags of hundreds of spans.
            var ranges: [MemoryRange] = []
            var size = 0
            let first = next
            while next < tagged.count, ranges.count < 512, size < 4 << 20 || ranges.isEmpty {
                ranges.append(tagged[next].array.range)
                size += tagged[next].array.range.size
                next += 1
            }
            var tags = [UInt64](repeating: 0, count: size / 8)
            var whole: [Bool] = []
            try withBytes(of: &tags) { (buffer) throws(HeapImageError) in
                whole = try memory.read(ranges, into: buffer)
            }
            var position = 0
            for (offset, isWhole) in whole.enumerated() {
                let (number, array) = tagged[first + offset]
                let read = tags[position..<position + Int(array.count)]
                position += Int(array.count)
                if isWhole, !visit(read, of: spans[number], from: array.firstSlot, body) { return }
            }
        }
    }

    /// Visits those of a span from a slot on; returns false when `body` does.
    private func visit(
        _ tags: ArraySlice<UInt64>, of span: Span, from firstSlot: UInt32,
        _ body: (TaggedSlot) -> Bool
    ) -> Bool {
        let pinned = span.pinnedBytes / UInt64(span.live)
        for (offset, tag) in tags.enumerated() where tag != 0 {
            let index = UInt64(firstSlot) + UInt64(offset)
            let slot = TaggedSlot(
                address: span.base &+ index &* span.slotSize,
                stack: mc_tag_stack(tag), usable: span.slotSize,
                requested: span.slotSize.minus(mc_tag_slack(tag)),
                birth: mc_tag_birth(tag), owner: span.owner, pinned: pinned)
            if !body(slot) { return false }
        }
        return true
    }

    /// By row of the table: the bytes of free slots that can't be given back because of its slots.
    package func pinned(
        by table: StackTable, _ memory: some MemorySource
    ) throws(HeapImageError) -> [UInt64] {
        var pinned = [UInt64](repeating: 0, count: table.rows.count)
        try forEachTagged(memory) { slot in
            guard Int(slot.stack) < table.rowOfStack.count else { return true }
            let row = Int(table.rowOfStack[Int(slot.stack)])
            if row >= 0 { pinned[row] = pinned[row].plus(slot.pinned) }
            return true
        }
        return pinned
    }

    /// By row of the table: the address of a slot that lives now, or 0.
    package func samples(
        of table: StackTable, _ memory: some MemorySource
    ) throws(HeapImageError) -> [UInt64] {
        var samples = [UInt64](repeating: 0, count: table.rows.count)
        var missing = table.rows.reduce(0) { $0 + ($1.counts.live > 0 ? 1 : 0) }
        guard missing > 0 else { return samples }
        try forEachTagged(memory) { slot in
            guard Int(slot.stack) < table.rowOfStack.count else { return true }
            let row = Int(table.rowOfStack[Int(slot.stack)])
            guard row >= 0, samples[row] == 0 else { return true }
            samples[row] = slot.address
            missing -= table.rows[row].counts.live > 0 ? 1 : 0
            return missing > 0
        }
        return samples
    }
}

extension HeapWalk.Span {
    /// Bytes of the span that no live slot has.
    fileprivate var pinnedBytes: UInt64 { size.minus(UInt64(live).times(slotSize)) }
}
