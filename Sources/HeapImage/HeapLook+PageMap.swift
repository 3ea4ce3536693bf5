// SPDX-License-Identifier: MIT
import CRegion

/// The page map, both ways: every slice leads to its span, and nothing else leads anywhere.
extension HeapLook {
    mutating func checkPageMap(_ memory: some MemorySource) throws(HeapImageError) {
        var leaves = [UInt64](repeating: 0, count: Int(MC_PAGE_MAP_ROOTS))
        guard heap.root.page_map != 0,
            try memory.loadPopulated(into: &leaves, from: heap.root.page_map)
        else { return note(.root, .root, 6, "there is no page map at \(hex(heap.root.page_map))") }
        var entries = [UInt64](repeating: 0, count: Int(MC_PAGE_MAP_ENTRIES))
        let reach = UInt64(1) << UInt64(MC_PAGE_MAP_SHIFT)
        // Spans are sorted by base: those of a leaf follow each other. One may reach into the next.
        var first = 0
        for index in leaves.indices {
            let leaf = leaves[index]
            let start = UInt64(index) * reach
            while first < inUse.count, end(of: inUse[first]) <= start { first += 1 }
            let hasSpans = first < inUse.count && heap.spans[inUse[first]].base < start + reach
            guard leaf != 0 || hasSpans else { continue }
            for entry in entries.indices { entries[entry] = 0 }
            // One without memory is zero: it was just made, or what it led to is gone and it was
            // given back.
            if leaf != 0, try !memory.loadPopulated(into: &entries, from: leaf),
                !memory.isUntouched(leaf, words: entries.count)
            {
                if !hasLostThreads {
                    note(
                        .pageMap, .root, 1 << 20 + UInt64(index),
                        "no page map leaf at \(hex(leaf))")
                }
                continue
            }
            expect(spansFrom: first, in: &entries, from: start)
            refuse(entries, from: start)
            guard findings.count < HeapCheck.findingLimit else { return }
        }
    }

    private func end(of number: Int) -> UInt64 {
        heap.spans[number].base + heap.spans[number].byteCount
    }

    /// Takes away the entries that are right.
    ///
    /// A span may lead nowhere that a thread of the parent was about to make, or to give back, when
    /// this process was forked: one of slots is its owner's, a large one may be anybody's.
    private mutating func expect(
        spansFrom first: Int, in entries: inout [UInt64], from start: UInt64
    ) {
        let slice = UInt64(MC_SLICE)
        let limit = start + UInt64(entries.count) * slice
        var position = first
        let isForked = hasLostThreads
        while position < inUse.count, heap.spans[inUse[position]].base < limit {
            let span = heap.spans[inUse[position]]
            let wanted = heap.address(ofSpan: inUse[position])
            let isSlots = Int32(span.state) == Int32(MC_SPAN_CLASS)
            let end = isSlots ? min(span.base + span.byteCount, limit) : span.base + 1
            var address = max(span.base, start)
            position += 1
            guard address < end else { continue }
            let isHalfDone = isForked && (!isSlots || isLost(span.owner))
            while address < end {
                let entry = Int((address - start) / slice)
                if entries[entry] == wanted {
                    counts.pageMapEntries += 1
                } else if entries[entry] != 0 || !isHalfDone {
                    notePageMap(span, address, entries[entry])
                }
                entries[entry] = 0
                address += slice
            }
        }
    }

    private mutating func notePageMap(_ span: mc_span, _ address: UInt64, _ entry: UInt64) {
        note(
            .pageMap, .span(span.base), address,
            "slice \(hex(address)) leads to \(entry == 0 ? "nothing" : hex(entry)), not to its span"
        )
    }

    /// What is left leads astray, except in a child of a process with threads: they may have been
    /// about to make a span when it was forked.
    private mutating func refuse(_ entries: [UInt64], from start: UInt64) {
        for index in entries.indices where entries[index] != 0 {
            let entry = entries[index]
            let address = start + UInt64(index) * UInt64(MC_SLICE)
            guard let number = heap.span(at: entry), number < heap.spans.count else {
                note(
                    .pageMapStray, .root, address,
                    "slice \(hex(address)) leads to \(hex(entry)), no span")
                continue
            }
            let span = heap.spans[number]
            if Int32(span.state) == Int32(MC_SPAN_UNUSED), hasLostThreads { continue }
            // Of a span that makes no sense itself, that is said already.
            if Int32(span.state) != Int32(MC_SPAN_UNUSED), !isInUse(number) { continue }
            note(
                .pageMapStray, .root, address,
                "slice \(hex(address)) leads to the span at \(hex(span.base)), which is not there")
        }
    }

    private func isInUse(_ number: Int) -> Bool {
        let base = heap.spans[number].base
        var index = inUse.prefixCount { heap.spans[$0].base < base }
        while index < inUse.count, heap.spans[inUse[index]].base == base {
            if inUse[index] == number { return true }
            index += 1
        }
        return false
    }
}

extension MemorySource {
    /// There is no memory behind any of it, yet.
    fileprivate func isUntouched(_ address: UInt64, words: Int) -> Bool {
        let whole = MemoryRange(start: address, size: words * 8)
        return address % 8 == 0 && address.plus(UInt64(whole.size)) <= 1 << 47
            && populated(whole).isEmpty
    }

    /// Like load(into:from:), but what has no memory behind it stays as it is; false where all of it
    /// has none.
    func loadPopulated(
        into words: inout [UInt64], from address: UInt64
    ) throws(HeapImageError) -> Bool {
        let whole = MemoryRange(start: address, size: words.count * 8)
        guard whole.start.plus(UInt64(whole.size)) <= 1 << 47, whole.start % 8 == 0 else {
            return false
        }
        let parts = populated(whole)
        var isThere = !parts.isEmpty
        for range in parts {
            let first = Int(range.start - address)
            var failure: HeapImageError?
            words.withUnsafeMutableBytes { buffer in
                do throws(HeapImageError) {
                    try read(
                        range.start,
                        into: UnsafeMutableRawBufferPointer(
                            rebasing: buffer[first..<(first + range.size)]))
                } catch {
                    failure = error
                }
            }
            if case .unreadable = failure { isThere = false } else if let failure { throw failure }
        }
        return isThere
    }
}
