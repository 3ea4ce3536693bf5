// SPDX-License-Identifier: MIT

/// Which slots of a span are free, by the mark that the heap leaves in a free slot's second word.
///
/// Only pages that are present are read, since reading others would give them memory.
package struct SlotMap: Sendable {
    /// Slots that hold nothing, by slot.
    package private(set) var isFree: [Bool]

    /// nil when the memory went meanwhile.
    package init?(
        _ span: HeapWalk.Span, _ memory: some MemorySource, _ pages: some PageSource
    ) {
        let count = Int(span.slotCount)
        let fresh = Int(min(span.fresh, span.slotCount))
        isFree = Array(repeating: true, count: count)
        let (size, page) = (span.slotSize, pages.pageSize)
        guard span.kind == .slots, size > 0 else {
            if span.live > 0 { isFree = [false] }
            return
        }
        // Pages with memory, by number; a live slot has its first one, but for what was never used.
        var present = [Bool](repeating: false, count: Int(span.size / page) + 1)
        _ = pages.visit(span.range) { run in
            guard run.flags.contains(.present), !run.flags.contains(.zero) else { return }
            let first = (run.range.lowerBound.minus(span.base)) / page
            let last = (run.range.upperBound.minus(span.base)) / page
            for index in first..<max(first, last) where Int(index) < present.count {
                present[Int(index)] = true
            }
        }
        var ranges: [MemoryRange] = []
        var slots: [Int] = []
        for slot in 0..<fresh where !span.isPurged(slot) {
            isFree[slot] = false
            let word = UInt64(slot) * size + 8
            guard present[Int(word / page)] else { continue }
            slots.append(slot)
            ranges.append(MemoryRange(start: span.base + word, size: 8))
        }
        guard !slots.isEmpty else { return }
        guard let words = Self.words(ranges, span, present, page, memory) else { return nil }
        for (slot, word) in zip(slots, words) where word == span.mark { isFree[slot] = true }
    }

    /// Small slots are read with all that is between them.
    private static func words(
        _ ranges: [MemoryRange], _ span: HeapWalk.Span, _ present: [Bool], _ page: UInt64,
        _ memory: some MemorySource
    ) -> [UInt64]? {
        var words = [UInt64](repeating: 0, count: ranges.count)
        guard span.slotSize <= 1024, let last = ranges.last else {
            guard (try? memory.readWords(ranges, into: &words)) != nil else { return nil }
            return words
        }
        // Runs of present pages, up to the last slot.
        var parts: [MemoryRange] = []
        let end = last.start + 8 - span.base
        var index = 0
        while index < present.count, UInt64(index) * page < end {
            var next = index
            while next < present.count, present[next], UInt64(next) * page < end { next += 1 }
            if next > index {
                let stop = min(UInt64(next) * page, end)
                parts.append(
                    MemoryRange(
                        start: span.base + UInt64(index) * page,
                        size: Int(stop - UInt64(index) * page)))
            }
            index = max(next, index + 1)
        }
        var bytes = [UInt8](repeating: 0, count: parts.reduce(0) { $0 + $1.size })
        guard (try? memory.readWords(parts, into: &bytes)) != nil else { return nil }
        var part = 0
        var before = 0
        bytes.withUnsafeBytes { buffer in
            for (place, range) in ranges.enumerated() {
                while part < parts.count,
                    range.start >= parts[part].start + UInt64(parts[part].size)
                {
                    before += parts[part].size
                    part += 1
                }
                guard part < parts.count, range.start >= parts[part].start else { continue }
                let offset = before + Int(range.start - parts[part].start)
                guard offset + 8 <= buffer.count else { continue }
                words[place] = buffer.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            }
        }
        return words
    }

    /// The longest run of free slots beside each other.
    package var largestFreeRun: Int {
        var (best, run) = (0, 0)
        for free in isFree {
            run = free ? run + 1 : 0
            best = max(best, run)
        }
        return best
    }
}

extension HeapWalk.Span {
    /// A part is a 64th of the span, in whole pages; see trim.c.
    fileprivate func isPurged(_ slot: Int) -> Bool {
        guard purged != 0 else { return false }
        let part = max(4096, (size / 64 + 4095) / 4096 * 4096)
        let number = UInt64(slot).times(slotSize) / part
        return number < 64 && purged >> number & 1 != 0
    }
}

extension MemorySource {
    fileprivate func readWords<Element: BitwiseCopyable>(
        _ ranges: [MemoryRange], into array: inout [Element]
    ) throws(HeapImageError) {
        try withBytes(of: &array) { (buffer) throws(HeapImageError) in
            let whole = try read(ranges, into: buffer)
            if let index = whole.firstIndex(of: false) {
                throw .unreadable(address: ranges[index].start)
            }
        }
    }
}
