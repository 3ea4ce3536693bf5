// SPDX-License-Identifier: MIT
import CRegion

/// Answers what addresses of a process are, from its heap's structures and its mappings, read once.
///
/// Which list a slot is on is read when it is asked for. By address order of the spans, not by
/// the heap's page map: a damaged map does not mislead it.
package struct AddressLookup {
    private let memory: any MemorySource
    private let heap: HeapStructures
    private let mappings: [Mapping]
    private let threads: ProcessThreads
    /// Numbers of the spans in use, by base.
    private let order: [Int]
    /// All that the heap mapped for itself.
    private let metadata: [Range<UInt64>]
    /// The same of the tracing.
    private let tracing: [Range<UInt64>]
    private let tagArrays: [(start: UInt64, size: UInt64, span: Int)]

    package init(
        _ memory: some MemorySource, root: UInt64, mappings: [Mapping], threads: ProcessThreads,
        metadata: [Range<UInt64>] = [], tracing: [Range<UInt64>] = []
    ) throws(HeapImageError) {
        self.memory = memory
        self.metadata = metadata
        self.tracing = tracing
        heap = try HeapStructures(memory, root: root)
        self.mappings = mappings
        self.threads = threads
        let spans = heap.spans
        order = spans.indices.filter {
            Int32(spans[$0].state) != Int32(MC_SPAN_UNUSED) && spans[$0].base < 1 << 47
                && spans[$0].byteCount < 1 << 47
        }.sorted { spans[$0].base < spans[$1].base }
        tagArrays = order.filter { Int32(spans[$0].state) == Int32(MC_SPAN_CLASS) }.flatMap {
            number in
            spans[number].tagArrays.map { ($0.start, UInt64($0.range.size), number) }
        }.sorted { $0.start < $1.start }
    }

    package func fact(about address: UInt64) throws(HeapImageError) -> AddressFact {
        if let number = span(around: address) { return try fact(about: address, in: number) }
        if let arena = heap.arena(of: address) { return .free(arena: arena.base, size: arena.size) }
        if let name = structure(at: address) { return .structure(name) }
        let index = mappings.prefixCount { $0.range.lowerBound <= address }
        if index > 0, mappings[index - 1].range.contains(address) {
            let mapping = mappings[index - 1]
            return .mapping(mapping, stackOf: threads.thread(onStack: mapping))
        }
        return .unmapped(
            below: index > 0 ? mappings[index - 1] : nil,
            above: index < mappings.count ? mappings[index] : nil)
    }

    // MARK: Spans and slots

    private func span(around address: UInt64) -> Int? {
        let index = order.prefixCount { heap.spans[$0].base <= address }
        guard index > 0 else { return nil }
        let span = heap.spans[order[index - 1]]
        return address - span.base < span.byteCount ? order[index - 1] : nil
    }

    private func fact(about address: UInt64, in number: Int) throws(HeapImageError) -> AddressFact {
        let span = heap.spans[number]
        let about = try describe(span, number)
        let offset = address - span.base
        guard about.kind == .slots else {
            let isWaiting = Int32(span.state) == Int32(MC_SPAN_WAITING)
            let isTagged = Int32(span.flags) & Int32(MC_SPAN_TAGGED) != 0 && span.tag != 0
            return .slot(
                SlotFact(
                    start: span.base, offset: offset, size: span.slotSize,
                    state: isWaiting ? .waiting : .live, span: about,
                    tag: isTagged && !isWaiting
                        ? TagFact(span.tag, requested: min(span.requested, span.slotSize)) : nil))
        }
        guard span.slotSize > 0, offset / span.slotSize < UInt64(span.slot_count) else {
            return .rest(about)
        }
        let index = UInt32(offset / span.slotSize)
        let start = span.base + UInt64(index) * span.slotSize
        var slot = SlotFact(
            start: start, offset: address - start, size: span.slotSize,
            state: try state(of: index, in: number), span: about)
        if slot.state == .live, let place = TagArray.place(of: index, in: span.tagArrays) {
            var tag: [UInt64] = [0]
            _ = try memory.attempt { () throws(HeapImageError) in
                try memory.load(into: &tag, from: place)
            }
            if tag[0] != 0 {
                slot.tag = TagFact(tag[0], requested: span.slotSize.minus(mc_tag_slack(tag[0])))
            }
        }
        return .slot(slot)
    }

    /// Walks the span's lists, which may change meanwhile: a few readings are tried.
    private func state(of index: UInt32, in number: Int) throws(HeapImageError) -> SlotFact.State {
        var span = heap.spans[number]
        for _ in 0..<8 {
            let address = heap.address(ofSpan: number)
            span = try memory.load(mc_span.self, at: address, zero: mc_span())
            guard span.isPlausible else { return .live }
            if index >= span.fresh { return .fresh }
            let serving = try memory.serving(of: span, at: address)
            let ranges = SlotHeads.ranges(of: span)
            var words = [UInt64](repeating: 0, count: ranges.reduce(0) { $0 + $1.size } / 8)
            try withBytes(of: &words) { (buffer) throws(HeapImageError) in
                _ = try memory.read(ranges, into: buffer)
            }
            let after = try memory.load(mc_span.self, at: address, zero: mc_span())
            let servingAfter = try memory.serving(of: after, at: address)
            let isSettled = span.equals(after) && serving.equals(servingAfter)
            let place = words.withUnsafeBytes { bytes in
                SlotLists(span, serving: serving, SlotHeads(bytes, of: span), tags: [])
                    .place(of: index)
            }
            if place != .live { return place }
            if isSettled { break }
        }
        let slot = span.base + UInt64(index) * span.slotSize
        return try heap.cached(slot, class: Int(span.class_index), memory) ?? .live
    }

    private func describe(_ span: mc_span, _ number: Int) throws(HeapImageError) -> SpanFact {
        let kind: SpanFact.Kind
        switch Int32(span.state) {
        case Int32(MC_SPAN_CLASS): kind = .slots
        case Int32(MC_SPAN_HUGE): kind = .huge
        default: kind = .large
        }
        let current: UInt64 = Int32(span.flags) & Int32(MC_SPAN_CURRENT) != 0 ? 1 : 0
        let served = try memory.serving(of: span, at: heap.address(ofSpan: number)).count
        let isWaiting = Int32(span.state) == Int32(MC_SPAN_WAITING)
        return SpanFact(
            kind: kind, base: span.base, size: span.byteCount, slotSize: span.slotSize,
            slotCount: UInt64(span.slot_count),
            live: kind == .slots
                ? span.usedCount.minus(mc_remote_count(span.remote) + current + served)
                : isWaiting ? 0 : 1,
            arena: heap.arena(of: span.base)?.base,
            thread: thread(at: kind == .slots ? span.owner : span.maker))
    }

    private func thread(at address: UInt64) -> HeapThreadFact? {
        guard let index = heap.threadAt[address] else { return nil }
        let thread = heap.threads[index]
        let kernels = threads[inner: thread.tid]
        return HeapThreadFact(
            number: thread.number, tid: kernels == nil ? nil : thread.tid,
            name: kernels?.name ?? "")
    }

    // MARK: The heap's own

    private func structure(at address: UInt64) -> String? {
        for pool in heap.pools {
            let offset = address &- pool.start
            guard offset < pool.count.times(HeapStructures.spanSize) else { continue }
            let start = address - offset % HeapStructures.spanSize
            guard let number = heap.span(at: start) else { continue }
            let span = heap.spans[number]
            return Int32(span.state) == Int32(MC_SPAN_UNUSED)
                ? "a span's struct, not in use" : "the struct of the span at \(hex(span.base))"
        }
        let size = UInt64(MemoryLayout<mc_thread>.size)
        for thread in heap.threads where address &- thread.address < size {
            return "the struct of thread \(thread.number)"
        }
        let index = tagArrays.prefixCount { $0.start <= address }
        if index > 0, address - tagArrays[index - 1].start < tagArrays[index - 1].size {
            return "the tags of the span at \(hex(heap.spans[tagArrays[index - 1].span].base))"
        }
        if tracing.contains(where: { $0.contains(address) }) {
            return "the tracing's index, or what it keeps of a thread's stack"
        }
        return metadata.contains { $0.contains(address) } ? "bitmaps, page map, or not in use" : nil
    }

    /// Where the heap keeps what it knows of slots: words there refer to nothing.
    package var ownRanges: [Range<UInt64>] {
        metadata + tracing
            + heap.pools.map { $0.start..<$0.start.plus($0.count.times(HeapStructures.spanSize)) }
            + heap.threads.map {
                $0.address..<$0.address.plus(UInt64(MemoryLayout<mc_thread>.size))
            }
            + tagArrays.map { $0.start..<$0.start.plus($0.size) }
    }
}

extension TagFact {
    fileprivate init(_ tag: UInt64, requested: UInt64) {
        self.init(stack: mc_tag_stack(tag), requested: requested, birth: mc_tag_birth(tag))
    }

    /// How long ago the slot was handed out, by a clock that goes round once in three months.
    package func age(now: UInt64, since start: UInt64) -> UInt64 {
        let quarter = now.minus(start) / TaggedSlot.birthNanoseconds % TaggedSlot.birthLimit
        let quarters = (quarter + TaggedSlot.birthLimit - birth % TaggedSlot.birthLimit)
        return (quarters % TaggedSlot.birthLimit).times(TaggedSlot.birthNanoseconds)
    }
}
