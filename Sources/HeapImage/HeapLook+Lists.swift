// SPDX-License-Identifier: MIT
import CRegion
import Glibc

/// The lists of free slots, and the tags.
extension HeapLook {
    /// A span as it was read to be judged.
    private struct Reading {
        var number: Int
        var before: mc_span
        var serving: mc_serving
        var slots: Range<Int> = 0..<0
        /// By array: its first slot, and where its tags are.
        var tags: [(firstSlot: UInt32, bytes: Range<Int>)] = []
    }

    mutating func checkLists(
        _ memory: some MemorySource, _ stackCount: () -> UInt64?
    ) throws(HeapImageError) {
        let chosen = inUse.filter {
            let span = heap.spans[$0]
            guard Int32(span.state) == Int32(MC_SPAN_CLASS) else { return false }
            if isLost(span.owner) {
                abandoned += 1
                return false
            }
            return isAlone?.contains(.span(span.base)) ?? true
        }.sorted()
        var highestStack: (stack: UInt32, slot: UInt64, span: UInt64) = (0, 0, 0)
        var next = 0
        while next < chosen.count {
            var group: [Int] = []
            var size = 0
            // Some megabytes at a time, so that a span's reading takes a moment only.
            while next < chosen.count, group.count < 256, size < 4 << 20 {
                let span = heap.spans[chosen[next]]
                size += Self.slotBytes(of: span)
                group.append(chosen[next])
                next += 1
            }
            var again = try judge(group, memory, &highestStack)
            for _ in 0..<16 where !again.isEmpty {
                var rest: [Int] = []
                for number in again { rest += try judge([number], memory, &highestStack) }
                again = rest
            }
            unsettled += again.count
        }
        if let count = stackCount(), highestStack.slot != 0, UInt64(highestStack.stack) >= count {
            note(
                .tag, .span(highestStack.span), highestStack.slot,
                "slot \(hex(highestStack.slot)) is charged to stack \(highestStack.stack);"
                    + " there are \(count)")
        }
    }

    private static func slotBytes(of span: mc_span) -> Int {
        let isCurrent = mc_serving.place(of: span) != nil
        guard span.free != 0 || span.remote != 0 || span.purged != 0 || isCurrent else { return 0 }
        return Int(span.fresh) * Int(min(span.slotSize, 2048))
    }

    /// Reads spans, their slots and tags, and the spans again; returns the numbers of those that
    /// changed between.
    private mutating func judge(
        _ numbers: [Int], _ memory: some MemorySource,
        _ highest: inout (stack: UInt32, slot: UInt64, span: UInt64)
    ) throws(HeapImageError) -> [Int] {
        let structs = numbers.map {
            MemoryRange(start: heap.address(ofSpan: $0), size: Int(HeapStructures.spanSize))
        }
        var before = [mc_span](repeating: mc_span(), count: numbers.count)
        var after = before
        try memory.load(structs, into: &before)
        let serving = try serving(before, structs, memory)
        var readings: [Reading] = []
        var ranges: [MemoryRange] = []
        var size = 0
        var again: [Int] = []
        func want(_ more: [MemoryRange]) -> Range<Int> {
            let start = size
            for range in more { size += range.size }
            ranges += more
            return start..<size
        }
        for (index, number) in numbers.enumerated() {
            let span = before[index]
            // Another one by now: the next look sees it.
            guard Self.isSame(span, heap.spans[number]) else { continue }
            var reading = Reading(number: number, before: span, serving: serving[index])
            if span.free != 0 || span.remote != 0 || span.purged != 0 || serving[index].free != 0 {
                reading.slots = want(SlotHeads.ranges(of: span))
            }
            reading.tags = span.tagArrays.map { ($0.firstSlot, want([$0.range])) }
            readings.append(reading)
        }
        var words = [UInt64](repeating: 0, count: (size + 7) / 8)
        try withBytes(of: &words) { (buffer) throws(HeapImageError) in
            _ = try memory.read(
                ranges, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<size]))
        }
        try memory.load(structs, into: &after)
        let servingAfter = try self.serving(after, structs, memory)
        var position = 0
        for reading in readings {
            while numbers[position] != reading.number { position += 1 }
            guard reading.before.equals(after[position]),
                reading.serving.equals(servingAfter[position])
            else {
                again.append(reading.number)
                continue
            }
            judge(reading, words, &highest)
        }
        return again
    }

    /// What is about to be served of each span.
    private func serving(
        _ spans: [mc_span], _ structs: [MemoryRange], _ memory: some MemorySource
    ) throws(HeapImageError) -> [mc_serving] {
        var found: [mc_serving] = []
        for (span, place) in zip(spans, structs) {
            found.append(try memory.serving(of: span, at: place.start))
        }
        return found
    }

    private mutating func judge(
        _ reading: Reading, _ words: [UInt64],
        _ highest: inout (stack: UInt32, slot: UInt64, span: UInt64)
    ) {
        let span = reading.before
        // Slots are multiples of 16 bytes, tags of 8: all begin at a word.
        var tags: [UInt64] = []
        if !reading.tags.isEmpty {
            tags = Array(repeating: 0, count: Int(span.slot_count))
            for (first, bytes) in reading.tags {
                tags.replaceSubrange(
                    Int(first)..<(Int(first) + bytes.count / 8),
                    with: words[(bytes.lowerBound / 8)..<(bytes.upperBound / 8)])
            }
        }
        words.withUnsafeBytes { bytes in
            let heads = SlotHeads(UnsafeRawBufferPointer(rebasing: bytes[reading.slots]), of: span)
            let lists = SlotLists(span, serving: reading.serving, heads, tags: tags)
            counts.freeSlots += lists.freeCount + lists.servedCount
            counts.remoteSlots += lists.remoteCount
            for finding in lists.findings where findings.count < HeapCheck.findingLimit {
                findings.append(finding)
            }
        }
        var index: UInt64 = 0
        for tag in tags {
            if tag != 0 {
                counts.tags += 1
                let stack = mc_tag_stack(tag)
                if stack >= highest.stack {
                    highest = (stack, span.base + index * span.slotSize, span.base)
                }
            }
            index += 1
        }
    }

    /// The same slots for the same owner, as far as a list's shape goes.
    private static func isSame(_ span: mc_span, _ other: mc_span) -> Bool {
        span.state == other.state && span.base == other.base
            && span.slotSize == other.slotSize && span.slot_count == other.slot_count
            && span.fresh <= span.slot_count
    }
}

extension MemorySource {
    /// One plain struct a range; those that can't be read are zero.
    fileprivate func load<Value>(
        _ ranges: [MemoryRange], into values: inout [Value]
    ) throws(HeapImageError) {
        var failure: HeapImageError?
        values.withUnsafeMutableBytes { buffer in
            do throws(HeapImageError) {
                _ = try read(ranges, into: buffer)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }
}
