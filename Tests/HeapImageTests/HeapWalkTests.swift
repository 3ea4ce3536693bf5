// SPDX-License-Identifier: MIT
import CRegion
import Testing

@testable import HeapImage

/// Memory made of a few pieces; everything else can't be read.
struct PieceMemory: MemorySource {
    var pieces: [UInt64: [UInt8]] = [:]
    /// Pieces that begin here have no memory behind them.
    var untouched: Set<UInt64> = []

    func populated(_ range: MemoryRange) -> [MemoryRange] {
        untouched.contains(range.start) ? [] : [range]
    }

    mutating func put<Value>(_ value: Value, at address: UInt64) {
        pieces[address] = withUnsafeBytes(of: value) { Array($0) }
    }

    mutating func put<Value>(_ values: [Value], at address: UInt64) {
        pieces[address] = values.withUnsafeBytes { Array($0) }
    }

    func read(
        _ address: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(HeapImageError) {
        for (start, bytes) in pieces where start <= address {
            guard address - start <= UInt64(bytes.count) else { continue }
            let skip = Int(address - start)
            guard bytes.count - skip >= buffer.count else { continue }
            buffer.copyBytes(from: bytes[skip..<(skip + buffer.count)])
            return
        }
        throw .unreadable(address: address)
    }
}

/// One arena of 64 slices, one thread, and a span of each kind.
struct SampleHeap {
    var memory = PieceMemory()
    var root = mc_heap_root()
    var spans: [mc_span]
    /// Of each bitmap.
    var words = 1
    /// Of the thread; none by default.
    var cache: [mc_span] = []
    /// As if all of a cache were such structs.
    static let cacheStructs =
        Int(MC_CACHE_PROXIES_AT) / MemoryLayout<mc_span>.size + Int(MC_PROXIES)

    init() {
        var small = mc_span()
        (small.base, small.class_index) = (0x10000, 3)
        (small.slot_count, small.used, small.fresh) = (256, 11, 20)
        small.state = UInt8(MC_SPAN_CLASS)
        small.flags = UInt8(MC_SPAN_TAGGED | MC_SPAN_CURRENT)
        small.remote = 3 << 48 | 0x10040
        (small.tags, small.more_tags) = (0x9000, 0xc000 - 64 * 8)
        var large = mc_span()
        (large.base, large.size, large.slot_size) = (0x20000, 131072, 102400)
        large.class_index = UInt8(MC_CLASS_LARGE)
        (large.slot_count, large.used, large.state) = (1, 1, UInt8(MC_SPAN_LARGE))
        large.flags = UInt8(MC_SPAN_TAGGED)
        (large.tag, large.requested) = (mc_tag_make(3, 0, 40), 100_000)
        var huge = mc_span()
        (huge.base, huge.size, huge.slot_size) = (0x8000000, 64 << 20, 64 << 20)
        huge.class_index = UInt8(MC_CLASS_HUGE)
        (huge.slot_count, huge.used, huge.state) = (1, 1, UInt8(MC_SPAN_HUGE))
        spans = [small, large, mc_span(), huge]

        root.magic = MC_HEAP_MAGIC
        root.version = UInt32(MC_HEAP_VERSION)
        root.span_size = UInt32(MemoryLayout<mc_span>.size)
        (root.arena_count, root.arenas) = (1, 0x2000)
        (root.pool_count, root.pools) = (1, 0x3000)
        (root.threads, root.thread_count) = (0x4000, 1)
        root.metadata_bytes = 4096
    }

    mutating func build() -> PieceMemory {
        if root.span_count == 0 { root.span_count = UInt64(spans.count) }
        memory.put(root, at: 0x1000)
        memory.put([UInt64(0x2100)], at: 0x2000)
        var arena = mc_arena()
        (arena.base, arena.slice_count, arena.bitmaps) = (0x10000, 64, 0x2200)
        arena.words = UInt64(words)
        memory.put(arena, at: 0x2100)
        // used, committed, dirty, aging: 9 slices used, 2 free ones still dirty
        let none = [UInt64](repeating: 0, count: words - 1)
        memory.put([0x1ff] + none + [1] + none + [0x7ff] + none + [0] + none, at: 0x2200)
        // The pool has room for more than was ever used.
        memory.put([mc_heap_pool(start: 0x100000, count: 1 << 20)], at: 0x3000)
        memory.put(spans, at: 0x100000)
        var tags = [UInt64](repeating: 0, count: 256)
        tags[4] = mc_tag_make(2, 14, 7)
        tags[9] = mc_tag_make(2, 0, 8)
        tags[64] = mc_tag_make(1, 1, 8)
        tags[255] = mc_tag_make(1, 3, 9)
        memory.put(Array(tags[..<64]), at: 0x9000)
        memory.put(Array(tags[64...]), at: 0xc000)
        var thread = mc_thread()
        thread.state = UInt32(MC_THREAD_LIVE)
        thread.cache = cache.isEmpty ? 0 : 0xa000
        if !cache.isEmpty { memory.put(cache, at: 0xa000) }
        memory.put(thread, at: 0x4000)
        return memory
    }
}

@Suite struct HeapWalkTests {
    @Test func spansAreCounted() throws {
        var sample = SampleHeap()
        let walk = try HeapWalk(sample.build(), root: 0x1000)
        #expect(walk.spans.map(\.kind) == [.slots, .large, .huge])
        // 11 used, of which 3 wait on `remote` and one is the count of a current span.
        #expect(walk.spans[0].live == 7)
        #expect(walk.usedCount == 9)
        #expect(walk.usedBytes == 7 * 64 + 102400 + 64 << 20)
        #expect(walk.reservedBytes == 1 << 20 + 64 << 20)
        #expect(walk.arenas.map(\.usedBytes) == [9 << 14])
        #expect(walk.arenas.map(\.purgeableBytes) == [2 << 14])
        #expect(walk.liveThreads == 1)
        #expect(walk.metadataBytes == 4096)
        #expect(walk.unsettled == 0)
    }

    /// Slots that a thread caches count in their span's `used`, but are free.
    @Test func cachedSlotsAreNotUsed() throws {
        var sample = SampleHeap()
        sample.cache = [mc_span](repeating: mc_span(), count: SampleHeap.cacheStructs)
        sample.cache[3].used = 0 &- 2
        let proxy = Int(MC_CACHE_PROXIES_AT) / MemoryLayout<mc_span>.size + 5
        sample.cache[proxy].state = UInt8(MC_SPAN_PROXY)
        (sample.cache[proxy].class_index, sample.cache[proxy].slot_count) = (3, 64)
        sample.cache[proxy].used = 61
        let walk = try HeapWalk(sample.build(), root: 0x1000)
        #expect(walk.cachedSlots[64] == 5)
        #expect(walk.cachedBytes == 320)
        #expect(walk.usedCount == 4)
        #expect(walk.usedBytes == 2 * 64 + 102400 + 64 << 20)
        #expect(try HeapTotal(sample.build(), root: 0x1000).usedBytes == walk.usedBytes)
    }

    /// By spans in use and not, lists of caches, and what the root kept of spans that are no more.
    @Test func requestsAreAddedUp() throws {
        var sample = SampleHeap()
        sample.spans[0].class_index = 3
        sample.spans[0].allocations = 1000
        sample.spans[1].class_index = UInt8(MC_CLASS_LARGE)
        sample.spans[1].allocations = 20
        (sample.spans[2].class_index, sample.spans[2].allocations) = (3, 500)
        (sample.spans[3].class_index, sample.spans[3].allocations) = (UInt8(MC_CLASS_HUGE), 1)
        sample.spans[3].used = 1
        sample.cache = [mc_span](repeating: mc_span(), count: SampleHeap.cacheStructs)
        for index in sample.cache.indices { sample.cache[index].class_index = UInt8(index) }
        (sample.cache[3].used, sample.cache[3].allocations) = (-2, 30)
        sample.root.slots_taken.3 = 4
        sample.root.slots_refused.3 = 5
        let walk = try HeapWalk(sample.build(), root: 0x1000)
        #expect(walk.requests[slotSize: 64] == .init(succeeded: 1534, failed: 5))
        #expect(walk.requests.large == .init(succeeded: 20))
        #expect(walk.requests.huge == .init(succeeded: 1))
        #expect(walk.requests.slotSizes == [64])
        #expect(walk.requests[slotSize: 65] == .init())
        #expect(walk.cachedSlots[64] == 2)
        sample.spans[0].class_index = 200
        #expect(
            try HeapWalk(sample.build(), root: 0x1000).requests[slotSize: 64].succeeded == 534)
    }

    /// Pages of the tracing's own are known from lists that the region leads to.
    @Test func theTracingsMemoryIsListed() throws {
        var sample = SampleHeap()
        var memory = sample.build()
        var list = mc_meta_list()
        list.count = 3
        list.ranges.0 = mc_meta_range(start: 0x700000, size: 4096)
        list.ranges.1 = mc_meta_range(start: 0x710000, size: 0)
        list.ranges.2 = mc_meta_range(start: 0x720000, size: 8192)
        memory.put(UInt64(0xb100), at: 0xb000)
        memory.put(list, at: 0xb100)
        let walk = try HeapWalk(memory, root: 0x1000, tracing: 0xb000)
        #expect(walk.tracing == [0x700000..<0x701000, 0x720000..<0x722000])
        #expect(walk.ownBytes == 4096 + 4096 + 8192)
        // A list that leads in a circle ends; one that is not there is none.
        list.next = 0xb100
        memory.put(list, at: 0xb100)
        #expect(try HeapWalk(memory, root: 0x1000, tracing: 0xb000).tracing.count > 2)
        #expect(try HeapWalk(memory, root: 0x1000, tracing: 0xeeee_0000).tracing.isEmpty)
        list.next = 0xeeee_0000
        memory.put(list, at: 0xb100)
        #expect(try HeapWalk(memory, root: 0x1000, tracing: 0xb000).tracing.isEmpty)
    }

    /// What was handed out and came back between two readings is no change.
    @Test func spansThatOnlyCountedAreSettled() {
        var one = mc_span()
        (one.used, one.allocations) = (3, 7)
        var two = one
        two.allocations = 9
        #expect(one.equals(two))
        two.used += 1
        #expect(!one.equals(two))
        two = one
        two.free = 16
        #expect(!one.equals(two))
    }

    /// The arena says how long they are.
    @Test func bitmapsLieAsFarApartAsTheyAreLong() throws {
        var sample = SampleHeap()
        sample.words = 3
        let walk = try HeapWalk(sample.build(), root: 0x1000)
        #expect(walk.arenas.map(\.usedBytes) == [9 << 14])
        #expect(walk.arenas.map(\.purgeableBytes) == [2 << 14])
        sample.words = 1
        var memory = sample.build()
        var arena = mc_arena()
        (arena.base, arena.slice_count, arena.bitmaps, arena.words) = (0x10000, 128, 0x2200, 1)
        memory.put(arena, at: 0x2100)
        #expect(throws: HeapImageError.self) { try HeapWalk(memory, root: 0x1000) }
    }

    @Test func tagsLeadToSlots() throws {
        var sample = SampleHeap()
        let memory = sample.build()
        var slots: [TaggedSlot] = []
        try HeapWalk(memory, root: 0x1000).forEachTagged(memory) { slot in
            slots.append(slot)
            slots[slots.count - 1].owner = 0
            slots[slots.count - 1].pinned = 0
            return true
        }
        #expect(
            slots == [
                TaggedSlot(
                    address: 0x20000, stack: 3, usable: 102400, requested: 100_000, birth: 40,
                    owner: 0, pinned: 0),
                TaggedSlot(
                    address: 0x10100, stack: 2, usable: 64, requested: 50, birth: 7, owner: 0,
                    pinned: 0),
                TaggedSlot(
                    address: 0x10240, stack: 2, usable: 64, requested: 64, birth: 8, owner: 0,
                    pinned: 0),
                TaggedSlot(
                    address: 0x11000, stack: 1, usable: 64, requested: 63, birth: 8, owner: 0,
                    pinned: 0),
                TaggedSlot(
                    address: 0x13fc0, stack: 1, usable: 64, requested: 61, birth: 9, owner: 0,
                    pinned: 0),
            ])
    }

    @Test func samplesAreFoundByRow() throws {
        var sample = SampleHeap()
        let memory = sample.build()
        let walk = try HeapWalk(memory, root: 0x1000)
        let region = ByteArray(bytes: SampleRegion().bytes)
        let table = try StackTable(region, region.header())
        #expect(try walk.samples(of: table, memory) == [0x10100, 0x20000, 0])
    }

    @Test func tagsThatWentAreNone() throws {
        var sample = SampleHeap()
        var memory = sample.build()
        let walk = try HeapWalk(memory, root: 0x1000)
        (memory.pieces[0x9000], memory.pieces[0xc000]) = (nil, nil)
        var count = 0
        try walk.forEachTagged(memory) { _ in
            count += 1
            return true
        }
        #expect(count == 1)
    }

    @Test func aCycleOfThreadsEnds() throws {
        var sample = SampleHeap()
        sample.root.thread_count = 5
        var memory = sample.build()
        var thread = mc_thread()
        thread.next = 0x4000
        thread.state = UInt32(MC_THREAD_LIVE)
        memory.put(thread, at: 0x4000)
        #expect(try HeapWalk(memory, root: 0x1000).liveThreads == 5)
    }

    @Test(arguments: [(0, .dense), (1, .always), (2, .never), (3, nil)] as [(UInt64, HugePages?)])
    func huge(way: UInt64, told: HugePages?) throws {
        var sample = SampleHeap()
        sample.root.huge_pages = way
        #expect(try HeapWalk(sample.build(), root: 0x1000).hugePages == told)
    }

    @Test func nonsenseIsRefused() {
        var noMagic = SampleHeap()
        noMagic.root.magic = 1
        var other = SampleHeap()
        other.root.version = UInt32(MC_HEAP_VERSION) + 1
        var manyArenas = SampleHeap()
        manyArenas.root.arena_count = .max
        var manyPools = SampleHeap()
        manyPools.root.pool_count = 1 << 40
        for sample in [noMagic, other, manyArenas, manyPools] {
            var sample = sample
            let memory = sample.build()
            #expect(throws: HeapImageError.self) { try HeapWalk(memory, root: 0x1000) }
        }
        #expect(throws: HeapImageError.unreadable(address: 0x5555)) {
            try HeapWalk(PieceMemory(), root: 0x5555)
        }
    }

    @Test func aPoolOfEndlessSpansIsRefused() {
        var sample = SampleHeap()
        sample.root.span_count = .max
        var memory = sample.build()
        memory.put([mc_heap_pool(start: 0x100000, count: .max)], at: 0x3000)
        #expect(throws: HeapImageError.self) { try HeapWalk(memory, root: 0x1000) }
    }

    @Test func onlyStructsThatWereUsedAreWalked() throws {
        var sample = SampleHeap()
        sample.root.span_count = 2
        #expect(try HeapWalk(sample.build(), root: 0x1000).spans.map(\.kind) == [.slots, .large])
    }

    @Test func spansGoOnInTheNextPool() throws {
        var sample = SampleHeap()
        sample.root.pool_count = 2
        var memory = sample.build()
        memory.put(
            [
                mc_heap_pool(start: 0x100000, count: 2),
                mc_heap_pool(start: 0x100000 + 3 * 128, count: 2),
            ], at: 0x3000)
        sample.root.span_count = 3
        memory.put(sample.root, at: 0x1000)
        let walk = try HeapWalk(memory, root: 0x1000)
        #expect(walk.spans.map(\.kind) == [.slots, .large, .huge])
    }

    /// Free, and kept by a thread: cached, not used.
    @Test func aWaitingSpanIsFree() throws {
        var sample = SampleHeap()
        sample.spans[1].state = UInt8(MC_SPAN_WAITING)
        let walk = try HeapWalk(sample.build(), root: 0x1000)
        #expect(walk.spans.map(\.kind) == [.slots, .huge])
        #expect(walk.usedBytes == 7 * 64 + 64 << 20)
        #expect(walk.waitingBytes == 131072)
    }

    @Test func impossibleSpansAreLeftOut() throws {
        var sample = SampleHeap()
        sample.spans[0].used = 999
        sample.spans[1].base = .max
        sample.spans[3].state = 77
        #expect(try HeapWalk(sample.build(), root: 0x1000).spans.isEmpty)
    }

    /// Random words in all structures: an answer or an error, in bounded time.
    @Test func anyDamageIsSurvived() {
        var random = SplitMix(state: 7)
        for _ in 0..<1000 {
            var sample = SampleHeap()
            var memory = sample.build()
            for _ in 0..<4 {
                let starts = memory.pieces.keys.sorted()
                guard let start = starts.randomElement(using: &random),
                    var piece = memory.pieces[start]
                else { continue }
                let place = Int.random(in: 0..<piece.count, using: &random)
                piece[place] = UInt8(truncatingIfNeeded: random.next())
                memory.pieces[start] = piece
            }
            guard let walk = try? HeapWalk(memory, root: 0x1000) else { continue }
            #expect(walk.spans.count <= 4)
            try? walk.forEachTagged(memory) { _ in true }
        }
    }

    /// Two are served, two wait: all in the span they lie in, and none if the list leads nowhere.
    @Test func slotsOfFullSpansAreFoundInThem() throws {
        var heap = WholeHeap()
        let before = try HeapWalk(heap.memory(), root: WholeHeap.root)
        heap.reuse()
        let walk = try HeapWalk(heap.memory(), root: WholeHeap.root)
        #expect(walk.spans[0].live == before.spans[0].live)
        #expect(walk.usedBytes == before.usedBytes && walk.cachedSlots.isEmpty)
        heap.heads[62].0 = 0
        let cut = try HeapWalk(heap.memory(), root: WholeHeap.root)
        #expect(cut.spans[0].live == before.spans[0].live + 1)
        #expect(cut.usedBytes == before.usedBytes && cut.cachedSlots == [WholeHeap.slotSize: 1])
    }
}
