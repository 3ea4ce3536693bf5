// SPDX-License-Identifier: MIT
import Testing

@testable import HeapImage

@Suite struct SlotMapTests {
    private static let mark: UInt64 = 0x1234_5678_9abc_def1

    /// Slots of that size from 0x100000, with the mark in those that are free.
    private static func span(
        _ size: UInt64, count: UInt32, free: Set<UInt32>
    ) -> (HeapWalk.Span, PieceMemory) {
        var span = HeapWalk.Span(
            kind: .slots, base: 0x100000, size: (size * UInt64(count) + 16383) / 16384 * 16384,
            slotSize: size, slotCount: count, live: count - UInt32(free.count))
        span.mark = mark
        var bytes = [UInt8](repeating: 7, count: Int(span.size))
        for slot in free {
            let place = Int(UInt64(slot) * size) + 8
            withUnsafeBytes(of: mark) { bytes.replaceSubrange(place..<place + 8, with: $0) }
        }
        var memory = PieceMemory()
        memory.put(bytes, at: span.base)
        return (span, memory)
    }

    private static func everything(_ span: HeapWalk.Span) -> RecordedPages {
        var pages = RecordedPages()
        pages.add(span.base, pages: span.size / 4096, .present)
        return pages
    }

    @Test(arguments: [UInt64(16), 48, 1024, 2048, 20480])
    func marksTell(size: UInt64) throws {
        let free: Set<UInt32> = [0, 3, 4, 5, 9]
        let (span, memory) = Self.span(size, count: 12, free: free)
        let slots = try #require(SlotMap(span, memory, Self.everything(span)))
        #expect(slots.isFree == (0..<12).map { free.contains($0) })
        #expect(slots.largestFreeRun == 3)
    }

    /// Beyond `fresh` nothing was ever handed out; what was purged is free.
    @Test func freshAndPurgedSlotsAreFree() throws {
        var (span, memory) = Self.span(4096, count: 16, free: [])
        span.fresh = 8
        span.purged = 0b110
        let slots = try #require(SlotMap(span, memory, Self.everything(span)))
        #expect(
            slots.isFree == [false, true, true, false, false, false, false, false]
                + Array(repeating: true, count: 8))
    }

    /// A slot without memory is not read: that would give it some.
    @Test func absentPagesAreNotRead() throws {
        let (span, memory) = Self.span(8192, count: 8, free: [1])
        var cut = memory
        cut.pieces = [span.base: Array((memory.pieces[span.base] ?? [])[..<0x4000])]
        var pages = RecordedPages()
        pages.add(span.base, pages: 4, .present)
        let slots = try #require(SlotMap(span, cut, pages))
        #expect(slots.isFree == [false, true] + Array(repeating: false, count: 6))
        #expect(SlotMap(span, cut, Self.everything(span)) == nil)
    }

    /// Large slots of which not all has memory: the live ones' memory is told from the rest.
    @Test func aReadingSplitsSpans() {
        let (span, memory) = Self.span(8192, count: 8, free: [1, 2, 5])
        var pages = RecordedPages()
        pages.add(span.base, pages: 7, .present)
        let walk = HeapWalk(
            spans: [span], arenas: [HeapWalk.Arena(base: 0x100000, size: 1 << 20)])
        let reading = MemoryReading(walk, mappings: [], in: pages, memory)
        // Slots 0 (8 KiB) and half of 3 are live, 1 and 2 are free.
        #expect(reading.populated(0) == 7 * 4096)
        #expect(reading.populatedLive(0) == 8192 + 4096)
    }
}
