// SPDX-License-Identifier: MIT
import CRegion
import Glibc

/// The heap of a process as its own structures tell it: every span, arena and thread there is.
///
/// The process may run on meanwhile. A span is taken once two readings of it in a row are equal;
/// one that never settles is taken as last read, and counted in `unsettled`.
package struct HeapWalk: Sendable {
    /// A span that is in use.
    package struct Span: Equatable, Sendable {
        package enum Kind: Sendable { case slots, large, huge }
        package var kind: Kind
        /// Address of the thread that owns it; 0 for large and huge ones.
        package var owner: UInt64
        package var base: UInt64
        package var size: UInt64
        package var slotSize: UInt64
        package var slotCount: UInt32
        /// Slots in use by the program; freed ones that wait on `remote` are not.
        package var live: UInt32
        /// Slots that other threads freed and the owner has not yet taken back.
        package var remote: UInt32
        /// Slots that were ever carved: those beyond were never touched.
        package var fresh: UInt32
        /// What the second word of a free slot is.
        package var mark: UInt64
        /// Of each 64th of the span: its slots are free, its pages were given back.
        package var purged: UInt64
        package var classIndex: UInt8
        package var isKept: Bool
        /// As in `mc_span`: addresses of its tags, or 0.
        package var tags: UInt64
        package var moreTags: UInt64
        /// Of a large or huge slot.
        package var tag: UInt64
        package var requested: UInt64

        package init(
            kind: Kind, base: UInt64, size: UInt64, slotSize: UInt64, slotCount: UInt32 = 1,
            live: UInt32 = 1, owner: UInt64 = 0
        ) {
            (self.kind, self.base, self.size, self.owner) = (kind, base, size, owner)
            (self.slotSize, self.slotCount, self.live) = (slotSize, slotCount, live)
            (remote, fresh, mark, purged, classIndex) = (0, slotCount, 0, 0, 0)
            (isKept, tags, moreTags, tag, requested) = (false, 0, 0, 0, 0)
        }
    }

    package struct Arena: Equatable, Sendable {
        package var base: UInt64
        package var size: UInt64
        package var range: Range<UInt64> { base..<base + size }
        /// Slices handed out to spans.
        package var usedBytes: UInt64
        /// Free slices that may have memory behind them still.
        package var purgeableBytes: UInt64

        package init(
            base: UInt64, size: UInt64, usedBytes: UInt64 = 0, purgeableBytes: UInt64 = 0
        ) {
            self.base = base
            self.size = size
            self.usedBytes = usedBytes
            self.purgeableBytes = purgeableBytes
        }
    }

    package private(set) var spans: [Span] = []
    package private(set) var arenas: [Arena] = []
    package private(set) var unsettled = 0
    /// By slot size: free slots that threads cache and their spans count as in use.
    package private(set) var cachedSlots: [UInt64: UInt64] = [:]
    /// Large spans that are free, and kept by a thread for its next request.
    package private(set) var waiting: [Span] = []
    /// By the order they were made in, the newest first; those that ended are among them.
    package let threads: [HeapThread]
    package let metadataBytes: UInt64
    /// Where the heap's own structures are; what found no place in its lists is missing.
    package private(set) var metadata: [Range<UInt64>] = []
    /// The same of the tracing: its index, and what it keeps a thread.
    package private(set) var tracing: [Range<UInt64>] = []
    package let tagBytes: UInt64
    package let hugeCount: UInt64
    package let hugeBytes: UInt64
    package let purgedBytes: UInt64
    /// How often slices of an arena, and mappings for huge slots, were asked for.
    package let slicesTaken: UInt64
    package let slicesRefused: UInt64
    package let mappingsTaken: UInt64
    package let mappingsRefused: UInt64
    package private(set) var requests: SlotRequests
    /// nil: not known.
    package let hugePages: HugePages?

    /// A heap that is nowhere: for reports of what was recorded.
    package init(
        spans: [Span], waiting: [Span] = [], arenas: [Arena], threads: [HeapThread] = [],
        metadata: [Range<UInt64>] = [], tracing: [Range<UInt64>] = [],
        requests: SlotRequests = SlotRequests(), hugePages: HugePages? = .dense
    ) {
        self.spans = spans
        self.waiting = waiting
        self.arenas = arenas
        self.threads = threads
        self.metadata = metadata
        self.tracing = tracing
        metadataBytes = metadata.reduce(0) { $0 + $1.upperBound - $1.lowerBound }
        let huge = spans.filter { $0.kind == .huge }
        hugeCount = UInt64(huge.count)
        hugeBytes = huge.reduce(0) { $0 + $1.size }
        (tagBytes, purgedBytes, slicesTaken, slicesRefused) = (0, 0, 0, 0)
        (mappingsTaken, mappingsRefused) = (0, 0)
        self.requests = requests
        self.hugePages = hugePages
    }

    /// `tracing`: where the process notes what its tracing mapped, if it does.
    package init(
        _ memory: some MemorySource, root address: UInt64, tracing: UInt64 = 0
    ) throws(HeapImageError) {
        let root = try memory.heapRoot(at: address)
        metadataBytes = root.metadata_bytes
        tagBytes = root.tag_bytes
        hugeCount = root.huge_count
        hugeBytes = root.huge_bytes
        purgedBytes = root.purged_bytes
        (slicesTaken, slicesRefused) = (root.slices_taken, root.slices_refused)
        (mappingsTaken, mappingsRefused) = (root.mappings_taken, root.mappings_refused)
        requests = SlotRequests(root)
        hugePages = HugePages(root)
        threads = try HeapThread.all(memory, root)
        metadata = try Self.ranges(
            memory, lists: root.meta_lists, limit: root.metadata_bytes / 4096)
        try readTracing(memory, tracing)
        try readArenas(memory, root)
        try readSpans(memory, root)
        // After the spans: what moves from a span to a thread's lists meanwhile is not counted as used.
        var served: [UInt64: UInt64] = [:]
        var reused: [UInt64] = []
        let most = spans.reduce(0) { $0 + Int($1.live) }  // more there are not, whatever lists say
        for thread in threads {
            for list in try thread.cacheLists(memory) {
                cachedSlots[mc_class_slot_size(UInt32(list.index)), default: 0] += list.count
                requests.add(list.raw)
            }
            for (index, list) in try memory.serving(ofThread: thread.address).enumerated() {
                requests.add(list, class: index)
                let found = try reused.count < most ? memory.reusedSlots(list) : []
                reused += found
                let scattered = ((list.isScattered ? list.count : 0) + list.waitingCount)
                    .minus(UInt64(found.count))
                if scattered > 0 {
                    cachedSlots[mc_class_slot_size(UInt32(index)), default: 0] += scattered
                }
                if !list.isScattered, list.count > 0 { served[list.span] = list.count }
            }
        }
        try takeOff(served, memory)
        takeOff(reused.sorted())
    }

    /// Slots that are free, and wait in their spans for the owner's next requests; in order.
    private mutating func takeOff(_ slots: [UInt64]) {
        guard !slots.isEmpty else { return }
        let order = spans.indices.filter { spans[$0].kind == .slots }
            .sorted { spans[$0].base < spans[$1].base }
        var next = 0
        for index in order {
            while next < slots.count, slots[next] < spans[index].base { next += 1 }
            while next < slots.count, slots[next] - spans[index].base < spans[index].size {
                spans[index].live -= spans[index].live > 0 ? 1 : 0
                next += 1
            }
        }
    }

    /// By the address of the span's struct: slots that are free, and about to be served.
    private mutating func takeOff(
        _ served: [UInt64: UInt64], _ memory: some MemorySource
    ) throws(HeapImageError) {
        var byBase: [UInt64: UInt64] = [:]
        for (address, count) in served {
            _ = try memory.attempt { () throws(HeapImageError) in
                let span = try memory.load(mc_span.self, at: address, zero: mc_span())
                byBase[span.base] = count
            }
        }
        guard !byBase.isEmpty else { return }
        for index in spans.indices where spans[index].kind == .slots {
            guard let count = byBase[spans[index].base] else { continue }
            spans[index].live = UInt32(UInt64(spans[index].live).minus(count))
        }
    }

    // MARK: Metadata

    /// What lists of ranges name, the newest list first; of damaged ones what makes sense.
    private static func ranges(
        _ memory: some MemorySource, lists: UInt64, limit pages: UInt64
    ) throws(HeapImageError) -> [Range<UInt64>] {
        var found: [Range<UInt64>] = []
        var address = lists
        // As many as all the pages could be listed in; a cycle ends there.
        let limit = pages / UInt64(MC_META_LIST_MAX) + 64
        for _ in 0..<min(limit, 1 << 20) where address != 0 {
            let list = try memory.load(mc_meta_list.self, at: address, zero: mc_meta_list())
            let ranges = withUnsafeBytes(of: list.ranges) { bytes in
                Array(bytes.bindMemory(to: mc_meta_range.self))
            }
            for range in ranges where range.start != 0 && range.size > 0 {
                guard range.start < 1 << 56, range.size < 1 << 56 else { continue }
                found.append(range.start..<range.start + range.size)
            }
            address = list.next
        }
        return found
    }

    /// Where it can't be read, it is as if there were none: the heap is what matters.
    private mutating func readTracing(
        _ memory: some MemorySource, _ noted: UInt64
    ) throws(HeapImageError) {
        guard noted != 0 else { return }
        var found: [Range<UInt64>] = []
        _ = try memory.attempt { () throws(HeapImageError) in
            let newest = try memory.load(UInt64.self, at: noted, zero: 0)
            found = try Self.ranges(memory, lists: newest, limit: Self.tracingLimit)
        }
        tracing = found
    }

    /// Pages of tables a process may have: those of a million threads.
    private static let tracingLimit: UInt64 = 1 << 22

    // MARK: Arenas

    private mutating func readArenas(
        _ memory: some MemorySource, _ root: mc_heap_root
    ) throws(HeapImageError) {
        guard root.arena_count <= UInt64(MC_ARENAS_MAX) else {
            throw .damagedHeap(why: "\(root.arena_count) arenas")
        }
        guard root.arena_count > 0 else { return }
        var addresses = [UInt64](repeating: 0, count: Int(root.arena_count))
        try memory.load(into: &addresses, from: root.arenas)
        for address in addresses where address != 0 {
            let arena = try memory.load(mc_arena.self, at: address, zero: mc_arena())
            // 2^33 slices are the whole address space of a process.
            guard arena.slice_count % 64 == 0, arena.slice_count <= 1 << 33,
                arena.base < 1 << 56
            else {
                throw .damagedHeap(why: "an arena of \(arena.slice_count) slices")
            }
            // An arena that was unmade keeps its bitmaps, and has no slices.
            guard arena.slice_count / 64 <= arena.words, arena.words <= 1 << 27 else {
                throw .damagedHeap(why: "bitmaps of \(arena.words) words")
            }
            if arena.slice_count > 0 { arenas.append(try Arena(memory, arena)) }
        }
    }

    // MARK: Spans

    private mutating func readSpans(
        _ memory: some MemorySource, _ root: mc_heap_root
    ) throws(HeapImageError) {
        spans.reserveCapacity(Int(min(root.span_count, SpanReader.limit)))
        try SpanReader.forEach(memory, root) { raw, isSettled in
            requests.add(raw)
            guard let span = Span(raw) else { return }
            if !isSettled { unsettled += 1 }
            if Int32(raw.state) == Int32(MC_SPAN_WAITING) {
                waiting.append(span)
            } else {
                spans.append(span)
            }
        }
    }
}

extension HeapWalk.Arena {
    /// Counts the bits of two of the bitmaps behind the arena.
    fileprivate init(
        _ memory: some MemorySource, _ raw: mc_arena
    ) throws(HeapImageError) {
        let words = raw.slice_count / 64
        var used = 0
        var purgeable = 0
        var done: UInt64 = 0
        while done < words {
            var usedBits = [UInt64](repeating: 0, count: Int(min(words - done, 1 << 14)))
            var dirtyBits = usedBits
            func start(_ bitmap: Int) -> UInt64 {
                raw.bitmaps &+ (UInt64(bitmap) * raw.words + done) * 8
            }
            try memory.load(into: &usedBits, from: start(MC_ARENA_USED))
            try memory.load(into: &dirtyBits, from: start(MC_ARENA_DIRTY))
            for (usedWord, dirtyWord) in zip(usedBits, dirtyBits) {
                used += usedWord.nonzeroBitCount
                purgeable += (dirtyWord & ~usedWord).nonzeroBitCount
            }
            done += UInt64(usedBits.count)
        }
        let slice = UInt64(MC_SLICE)
        base = raw.base
        size = raw.slice_count * slice
        usedBytes = UInt64(used) * slice
        purgeableBytes = UInt64(purgeable) * slice
    }
}

extension HeapWalk.Span {
    /// nil for a span that is not in use, or that says what no span can.
    init?(_ raw: mc_span) {
        let limit: UInt64 = 1 << 56
        let byteCount = raw.byteCount
        guard raw.base < limit, byteCount < limit, raw.slotSize < limit else { return nil }
        switch Int32(raw.state) {
        case Int32(MC_SPAN_CLASS): kind = .slots
        case Int32(MC_SPAN_LARGE), Int32(MC_SPAN_WAITING): kind = .large
        case Int32(MC_SPAN_HUGE): kind = .huge
        default: return nil
        }
        // A span that serves its owner's requests counts one more in `used`.
        let isCurrent = Int32(raw.flags) & Int32(MC_SPAN_CURRENT) != 0
        let extra: UInt64 = isCurrent ? 1 : 0
        guard UInt64(raw.slot_count).times(raw.slotSize) <= byteCount || kind != .slots,
            raw.usedCount <= UInt64(raw.slot_count) + extra, raw.slot_count > 0
        else { return nil }
        owner = kind == .slots ? raw.owner : 0
        base = raw.base
        size = byteCount
        slotSize = raw.slotSize
        slotCount = UInt32(raw.slot_count)
        remote = UInt32(mc_remote_count(raw.remote))
        let isWaiting = Int32(raw.state) == Int32(MC_SPAN_WAITING)
        live =
            isWaiting
            ? 0 : UInt32(raw.usedCount.minus(mc_remote_count(raw.remote) + extra))
        fresh = UInt32(min(raw.fresh, raw.slot_count))
        mark = raw.mark
        purged = kind == .slots ? raw.purged : 0
        classIndex = raw.class_index
        isKept = Int32(raw.flags) & Int32(MC_SPAN_KEPT) != 0
        let isTagged = Int32(raw.flags) & Int32(MC_SPAN_TAGGED) != 0
        tags = isTagged && kind == .slots ? raw.tags : 0
        moreTags = isTagged && kind == .slots ? raw.more_tags : 0
        tag = isTagged && kind != .slots ? raw.tag : 0
        requested = isTagged && kind != .slots ? raw.requested : 0
    }

    var tagArrays: [TagArray] {
        TagArray.all(tags: tags, more: moreTags, slotCount: slotCount)
    }
    package var liveBytes: UInt64 { UInt64(live).times(slotSize) }
    package var range: Range<UInt64> { base..<base + size }
}

extension HeapWalk {
    /// Bytes of all live slots: what the program has of the heap.
    package var usedBytes: UInt64 {
        spans.reduce(UInt64(0)) { $0.plus($1.liveBytes) }.minus(cachedBytes)
    }
    package var usedCount: UInt64 {
        spans.reduce(UInt64(0)) { $0.plus(UInt64($1.live)) }.minus(cachedSlots.values.reduce(0, +))
    }
    /// Of the free slots that threads cache.
    package var cachedBytes: UInt64 {
        cachedSlots.reduce(UInt64(0)) { $0.plus($1.key.times($1.value)) }
    }
    /// Address space: arenas, and mappings of huge slots.
    package var reservedBytes: UInt64 {
        let huge = spans.reduce(UInt64(0)) { $0.plus($1.kind == .huge ? $1.size : 0) }
        return arenas.reduce(huge) { $0.plus($1.size) }
    }
    /// Address space of our own structures: the heap's and the tracing's.
    package var ownBytes: UInt64 { metadataBytes.plus(tracingBytes) }
    package var tracingBytes: UInt64 {
        tracing.reduce(UInt64(0)) { $0.plus($1.upperBound - $1.lowerBound) }
    }
    package var waitingBytes: UInt64 { waiting.reduce(UInt64(0)) { $0.plus($1.size) } }
    package var liveThreads: Int { threads.count { $0.isLive } }
}
