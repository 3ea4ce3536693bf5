// SPDX-License-Identifier: MIT
import CRegion

/// The free slots of one span: its list `free`, those that its owner is about to serve, and the list
/// of those that others freed.
///
/// Walks them as the heap would, and says where they are not what the heap left there. Cost: a
/// few loads a free slot.
struct SlotLists {
    private let span: mc_span
    private let serving: mc_serving
    /// The first two words of the slots below `fresh`.
    private let slots: SlotHeads
    /// By slot; empty when the span has none.
    private let tags: [UInt64]
    private var seen: [UInt64]
    private var onFreeList: [UInt64] = []
    private(set) var findings: [HeapFinding] = []
    private(set) var freeCount: UInt64 = 0
    private(set) var servedCount: UInt64 = 0
    private(set) var remoteCount: UInt64 = 0

    init(
        _ span: mc_span, serving: mc_serving, _ slots: SlotHeads, tags: [UInt64]
    ) {
        self.span = span
        self.serving = serving
        self.slots = slots
        self.tags = tags
        seen = Array(repeating: 0, count: Int(span.slot_count) / 64 + 1)
        let remote = mc_remote_slot(span.remote)
        let free = walk(span.free, "free list")
        let served = walk(serving.free, "list of slots to be served")
        onFreeList = seen
        let freed = walk(remote, "list of slots others freed")
        (freeCount, servedCount, remoteCount) = (free.count, served.count, freed.count)
        if free.isWhole, served.isWhole, freed.isWhole { compareCounts() }
    }

    /// Follows a list to its end, or to where it leads astray.
    private mutating func walk(_ head: UInt64, _ name: String) -> (count: UInt64, isWhole: Bool) {
        let size = max(1, UInt32(truncatingIfNeeded: span.slotSize))
        let carved = UInt64(span.fresh).times(span.slotSize)
        let seenBefore = seen
        var slot = head
        var last: UInt64 = 0
        var count: UInt64 = 0
        while slot != 0 {
            let offset = slot &- span.base
            guard offset < carved, UInt32(truncatingIfNeeded: offset) % size == 0 else {
                stray(slot, after: last, name, "no slot of the span that was in use")
                return (count, false)
            }
            let index = UInt32(truncatingIfNeeded: offset) / size
            let bit = UInt64(1) << UInt64(index % 64)
            guard seen[Int(index / 64)] & bit == 0 else {
                if seenBefore[Int(index / 64)] & bit != 0 {
                    stray(slot, after: last, name, "a slot of another list", .listShared)
                } else {
                    stray(slot, after: last, name, "a slot that is on it already")
                }
                return (count, false)
            }
            seen[Int(index / 64)] |= bit
            guard let head = slots[index] else {
                stray(slot, after: last, name, "a slot whose pages were given back")
                return (count, false)
            }
            count += 1
            if head.mark != span.mark { noteWritten(slot, name, head.mark) }
            if Int(index) < tags.count, tags[Int(index)] != 0 {
                note(.listTag, slot, "\(name): slot \(hex(slot)) is free and has a tag")
            }
            last = slot
            slot = head.next
        }
        return (count, true)
    }

    private mutating func stray(
        _ slot: UInt64, after last: UInt64, _ name: String, _ what: String,
        _ kind: HeapFinding.Kind = .listLink
    ) {
        let from = last == 0 ? "begins at" : "leads from slot \(hex(last)) to"
        note(kind, last == 0 ? slot : last, "\(name) \(from) \(hex(slot)), \(what)")
    }

    private mutating func noteWritten(_ slot: UInt64, _ name: String, _ word: UInt64) {
        note(
            .listMark, slot,
            "\(name): slot \(hex(slot)) was written to after it was freed:"
                + " \(hex(word)) at \(hex(slot + 8)), where its mark was")
    }

    /// Where a slot below `fresh` is.
    func place(of index: UInt32) -> SlotFact.State {
        func has(_ bits: [UInt64]) -> Bool { bits[Int(index / 64)] >> UInt64(index % 64) & 1 != 0 }
        if has(onFreeList) { return .free }
        if has(seen) { return .remote }
        return slots[index] == nil ? .purged : .live
    }

    private mutating func compareCounts() {
        let current: UInt64 = Int32(span.flags) & Int32(MC_SPAN_CURRENT) != 0 ? 1 : 0
        let purged = slots.purgedCount
        let inUse = span.usedCount.minus(current)
        if span.usedCount + freeCount + purged != UInt64(span.fresh) + current {
            note(
                .spanCounts, 0,
                "\(inUse) slots in use, \(freeCount) free, \(purged) given back: not the"
                    + " \(span.fresh) there are")
        }
        if serving.count != servedCount {
            note(.spanCounts, 2, "\(servedCount) slots to be served, \(serving.count) counted")
        }
        let claimed = mc_remote_count(span.remote)
        if claimed != remoteCount {
            note(.spanCounts, 1, "\(remoteCount) slots freed by others, \(claimed) counted")
        }
    }

    private mutating func note(_ kind: HeapFinding.Kind, _ at: UInt64, _ what: String) {
        guard findings.count < HeapCheck.findingLimit else { return }
        findings.append(HeapFinding(kind: kind, place: .span(span.base), at: at, what: what))
    }
}

extension mc_span {
    /// The slots ever handed out lie within the span, and that among addresses there are.
    ///
    /// Holds for every span of slots; asked before computing with one that may be damaged.
    var isPlausible: Bool {
        slotSize >= 16 && slotSize <= 1 << 30 && fresh <= slot_count && byteCount <= 1 << 30
            && base <= 1 << 47
    }
}

/// The first two words of each slot a span ever handed out, out of a reading of them.
struct SlotHeads {
    /// The words lie `stride` apart, those of purged slots are left out.
    private let bytes: UnsafeRawBufferPointer
    private let stride: Int
    private let isPurged: PurgedParts

    init(_ bytes: UnsafeRawBufferPointer, of span: mc_span) {
        self.bytes = bytes
        isPurged = PurgedParts(span)
        stride = Self.isWhole(span) ? Int(span.slotSize) : 16
    }

    subscript(index: UInt32) -> (next: UInt64, mark: UInt64)? {
        guard let place = isPurged.place(of: index) else { return nil }
        let offset = place * stride
        guard offset + 16 <= bytes.count else { return nil }
        return (
            bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self),
            bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self)
        )
    }

    var purgedCount: UInt64 { isPurged.count }

    /// Where slots are large, or parts of the span are given back, only their first words are read:
    /// nothing is read that has no memory behind it, as reading would give it some.
    private static func isWhole(_ span: mc_span) -> Bool {
        span.purged == 0 && span.slotSize <= 2048
    }

    /// What to read of the span.
    static func ranges(of span: mc_span) -> [MemoryRange] {
        guard span.fresh > 0, span.isPlausible else { return [] }
        if isWhole(span) {
            return [MemoryRange(start: span.base, size: Int(span.slotSize) * Int(span.fresh))]
        }
        let purged = PurgedParts(span)
        return (0..<UInt32(span.fresh)).filter { purged.place(of: $0) != nil }.map {
            MemoryRange(start: span.base + UInt64($0) * span.slotSize, size: 16)
        }
    }
}

/// Which slots of a span start in parts of it that were given back to the kernel.
struct PurgedParts {
    /// By slot: its place among those that are there, or -1; empty when all are.
    private var places: [Int32] = []
    private(set) var count: UInt64 = 0

    init(_ span: mc_span) {
        guard span.purged != 0, span.isPlausible else { return }
        // A part is a 64th of the span, in whole pages; see trim.c.
        let page: UInt64 = 4096
        let part = max(page, (span.byteCount / 64 + page - 1) / page * page)
        var place: Int32 = 0
        for index in 0..<UInt64(span.fresh) {
            let number = index * span.slotSize / part
            if number < 64, span.purged >> number & 1 != 0 {
                places.append(-1)
                count += 1
            } else {
                places.append(place)
                place += 1
            }
        }
    }

    func place(of index: UInt32) -> Int? {
        guard !places.isEmpty else { return Int(index) }
        let place = places[Int(index)]
        return place < 0 ? nil : Int(place)
    }
}
