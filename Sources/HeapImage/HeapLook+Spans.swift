// SPDX-License-Identifier: MIT
import CRegion

/// Spans: each by itself, and beside the others.
extension HeapLook {
    mutating func checkSpans() {
        var hugeCount: UInt64 = 0
        var hugeBytes: UInt64 = 0
        for number in heap.spans.indices {
            let span = heap.spans[number]
            switch Int32(span.state) {
            case Int32(MC_SPAN_UNUSED): continue
            case Int32(MC_SPAN_CLASS):
                counts.slotSpans += 1
                if checkSlotSpan(span, at: heap.address(ofSpan: number)) { inUse.append(number) }
            case Int32(MC_SPAN_LARGE), Int32(MC_SPAN_WAITING):
                let isLive = Int32(span.state) == Int32(MC_SPAN_LARGE)
                counts.large += isLive ? 1 : 0
                counts.waiting += isLive ? 0 : 1
                counts.liveSlots += isLive ? 1 : 0
                if checkLarge(span, isLive: isLive) { inUse.append(number) }
            case Int32(MC_SPAN_HUGE):
                counts.huge += 1
                counts.liveSlots += 1
                hugeCount += 1
                hugeBytes = hugeBytes.plus(span.size)
                if checkHuge(span) { inUse.append(number) }
            default:
                note(
                    .spanState, .span(span.base), 0,
                    "struct \(hex(heap.address(ofSpan: number))): no such state, \(span.state)")
            }
        }
        // What another thread of the parent was doing at a fork is lost, these sums with it.
        if !hasLostThreads, (heap.root.huge_count, heap.root.huge_bytes) != (hugeCount, hugeBytes) {
            note(
                .hugeSums, .root, 0,
                "\(hugeCount) huge slots of \(hugeBytes) bytes, counted \(heap.root.huge_count)"
                    + " of \(heap.root.huge_bytes)")
        }
        checkOverlaps()
    }

    private mutating func checkSlotSpan(_ span: mc_span, at address: UInt64) -> Bool {
        let place = HeapFinding.Place.span(span.base)
        let slice = UInt64(MC_SLICE)
        guard Int32(span.class_index) < Int32(MC_CLASS_COUNT) else {
            note(.spanBounds, place, 0, "class \(span.class_index), there is none")
            return false
        }
        let size = mc_class_slot_size(UInt32(span.class_index))
        guard span.reciprocal == mc_reciprocal_of(size) else {
            note(.spanBounds, place, 1, "is not divided by \(size) bytes, which its class has")
            return false
        }
        // As many as fit in its slices, of which it has as many as they take.
        guard span.base % slice == 0, span.slot_count > 0, span.byteCount <= 1 << 24,
            UInt64(span.slot_count) == span.byteCount / size
        else {
            note(.spanBounds, place, 2, "\(span.slot_count) slots of \(size) bytes")
            return false
        }
        let current: UInt64 = Int32(span.flags) & Int32(MC_SPAN_CURRENT) != 0 ? 1 : 0
        let isSound =
            span.fresh <= span.slot_count && span.usedCount <= UInt64(span.fresh) + current
            && mc_remote_count(span.remote) + current <= span.usedCount
        // A thread that a fork left behind may have been in the middle of counting.
        guard isSound || isLost(span.owner) else {
            note(
                .spanCounts, place, 2,
                "\(span.usedCount) used, of which \(mc_remote_count(span.remote)) freed by others and"
                    + " \(current) reserved; \(span.fresh) ever handed out of \(span.slot_count)")
            return false
        }
        counts.liveSlots += span.usedCount.minus(mc_remote_count(span.remote) + current)
        checkState(of: span, at: address)
        return hasSlices(span, size: span.byteCount)
    }

    private mutating func checkState(of span: mc_span, at address: UInt64) {
        let place = HeapFinding.Place.span(span.base)
        guard owner(of: span) != nil else {
            return note(.spanState, place, 1, "owner \(hex(span.owner)) is no thread")
        }
        guard !isLost(span.owner) else { return }
        let flags = Int32(span.flags)
        let known = MC_SPAN_TAGGED | MC_SPAN_FULL | MC_SPAN_KEPT | MC_SPAN_CURRENT | MC_SPAN_ZERO
        if flags & ~Int32(known) != 0 {
            note(.spanState, place, 2, "flags \(hex(UInt64(span.flags))), no such ones")
        }
        let isFull = flags & Int32(MC_SPAN_FULL) != 0
        let list =
            isFull && Int32(span.class_index) < Int32(MC_DIRECT_CLASSES)
            ? mc_serving.reuse(thread: span.owner, class: Int(span.class_index))
            : address &+ UInt64(MC_SPAN_LIST_AT)
        if span.list != list {
            note(.spanState, place, 6, "frees go to \(hex(span.list)), not to \(hex(list))")
        }
        let isShared = list == span.list && list != address &+ UInt64(MC_SPAN_LIST_AT)
        let isPlain =
            flags & Int32(MC_SPAN_TAGGED) == 0 && span.purged == 0 && (!isFull || isShared)
        if span.limit != (isPlain ? mc_limit_of(UInt64(span.fresh), span.slotSize) : 0) {
            note(.spanState, place, 3, "frees take the \(isPlain ? "long" : "short") path wrongly")
        }
        checkFull(span, isFull: isFull)
    }

    private mutating func checkFull(_ span: mc_span, isFull: Bool) {
        let place = HeapFinding.Place.span(span.base)
        if span.remote == UInt64(MC_REMOTE_GONE) {
            if !isFull || span.usedCount != 0 || span.purged == 0 {
                note(.spanState, place, 5, "said to be given back whole, and is not")
            }
        } else if isFull, span.free != 0 || span.purged != 0 || span.fresh != span.slot_count {
            note(.spanState, place, 4, "said to be full, and is not")
        }
    }

    private mutating func checkLarge(_ span: mc_span, isLive: Bool) -> Bool {
        let slice = UInt64(MC_SLICE)
        guard span.base % slice == 0, span.size % slice == 0, span.size > 0, span.slot_count == 1
        else {
            note(
                .spanBounds, .span(span.base), 2,
                "a large slot of \(span.slotSize) bytes in \(span.size)")
            return false
        }
        if span.slotSize == 0 || span.slotSize > span.size || span.slotSize % 4096 != 0 {
            note(
                .spanState, .span(span.base), 5,
                "a large slot of \(span.slotSize) bytes in \(span.size)")
        }
        return hasSlices(span, size: span.size)
    }

    private mutating func checkHuge(_ span: mc_span) -> Bool {
        guard span.base % 4096 == 0, span.size % 4096 == 0, span.size > 0,
            span.base.plus(span.size) <= 1 << 47, span.slotSize == span.size
        else {
            note(
                .spanBounds, .span(span.base), 2,
                "a huge slot of \(span.slotSize) bytes in \(span.size)")
            return false
        }
        guard heap.arena(of: span.base) == nil else {
            note(.spanBounds, .span(span.base), 3, "a huge slot inside an arena")
            return false
        }
        return true
    }

    /// A span lies in an arena, and all its slices are taken there.
    private mutating func hasSlices(_ span: mc_span, size: UInt64) -> Bool {
        guard let arena = heap.arena(of: span.base), size <= arena.size,
            span.base - arena.base <= arena.size - size
        else {
            note(.spanBounds, .span(span.base), 4, "\(size) bytes that lie in no arena")
            return false
        }
        let first = Int((span.base - arena.base) / UInt64(MC_SLICE))
        let count = Int(size / UInt64(MC_SLICE))
        for slice in first..<(first + count)
        where arena.used[slice / 64] >> UInt64(slice % 64) & 1 == 0 {
            note(
                .slices, .arena(arena.base), 1 << 32 + UInt64(slice),
                "slice \(hex(arena.base + UInt64(slice * Int(MC_SLICE)))) is in a span and free")
            break
        }
        return true
    }

    private mutating func checkOverlaps() {
        inUse.sort { heap.spans[$0].base < heap.spans[$1].base }
        var end: UInt64 = 0
        var last: UInt64 = 0
        for number in inUse {
            let span = heap.spans[number]
            if span.base < end {
                note(.spanOverlap, .span(span.base), last, "overlaps the span at \(hex(last))")
            }
            if span.base + span.byteCount > end {
                (end, last) = (span.base + span.byteCount, span.base)
            }
        }
    }
}
