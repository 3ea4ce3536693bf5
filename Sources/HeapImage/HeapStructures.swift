// SPDX-License-Identifier: MIT
import CRegion

/// The heap's structs as they lie in the process' memory: what checking them and looking up an
/// address need, and a sum does not.
///
/// Nothing in them is trusted, and one that makes no sense is left out: `damage` says which. Only
/// a root that can't be used at all is an error.
struct HeapStructures {
    struct Arena {
        var address: UInt64
        var base: UInt64
        var sliceCount: UInt64
        /// A bit a slice.
        var used: [UInt64]
        var dirty: [UInt64]
        /// A bit for so many slices as are committed together.
        var committed: [UInt64]

        var size: UInt64 { sliceCount * UInt64(MC_SLICE) }
    }

    let root: mc_heap_root
    private(set) var arenas: [Arena] = []
    private(set) var pools: [mc_heap_pool] = []
    /// All that were ever in use, by number.
    private(set) var spans: [mc_span] = []
    private(set) var threads: [ThreadRecord] = []
    /// Numbers of `threads` by the address of the struct.
    private(set) var threadAt: [UInt64: Int] = [:]
    private(set) var damage: [HeapFinding] = []

    /// `isChild`: of a forked child that has not allocated since, and so has not noticed.
    init(
        _ memory: some MemorySource, root address: UInt64, isChild: Bool = false
    ) throws(HeapImageError) {
        root = try memory.heapRoot(at: address)
        try readArenas(memory)
        try readSpans(memory)
        try readThreads(memory)
        let live = threads.indices.filter {
            threads[$0].state == .live || threads[$0].state == .busy
        }
        // Which of them it was that forked is not to be seen from here.
        if isChild, live.count > 1 { for index in live { threads[index].state = .lost } }
    }

    private mutating func note(
        _ kind: HeapFinding.Kind, _ place: HeapFinding.Place, _ at: UInt64, _ what: String
    ) {
        damage.append(HeapFinding(kind: kind, place: place, at: at, what: what))
    }

    // MARK: Arenas

    /// Of an arena, 64 GiB: far more than the heap ever reserves at once.
    private static let sliceLimit: UInt64 = 1 << 22

    private mutating func readArenas(_ memory: some MemorySource) throws(HeapImageError) {
        let limit = UInt64(MC_ARENAS_MAX)
        if root.arena_count > limit {
            note(.root, .root, 1, "\(root.arena_count) arenas, of \(limit) at most")
        }
        if HugePages(root) == nil {
            note(.root, .root, 8, "huge pages as nobody can choose, \(root.huge_pages)")
        }
        var addresses = [UInt64](repeating: 0, count: Int(min(root.arena_count, limit)))
        guard
            try memory.attempt({ () throws(HeapImageError) in
                try memory.load(into: &addresses, from: root.arenas)
            })
        else { return note(.root, .root, 2, "the list of arenas is not in memory") }
        for address in addresses where address != 0 {
            try readArena(memory, at: address)
        }
        arenas.sort { $0.base < $1.base }
    }

    private mutating func readArena(
        _ memory: some MemorySource, at address: UInt64
    ) throws(HeapImageError) {
        var raw = mc_arena()
        guard
            try memory.attempt({ () throws(HeapImageError) in
                raw = try memory.load(mc_arena.self, at: address, zero: raw)
            })
        else { return note(.arena, .arena(address), 0, "its struct is not in memory") }
        // An arena that was unmade keeps its bitmaps, and has no slices.
        guard raw.slice_count > 0 else { return }
        guard raw.slice_count % 64 == 0, raw.slice_count / 64 <= raw.words,
            raw.slice_count <= Self.sliceLimit,
            raw.base % UInt64(MC_SLICE) == 0,
            raw.base.plus(raw.slice_count.times(UInt64(MC_SLICE))) <= 1 << 47
        else {
            return note(
                .arena, .arena(raw.base), 0,
                "\(raw.slice_count) slices at \(hex(raw.base)), bitmaps of \(raw.words) words")
        }
        let bytes = raw.slice_count.times(UInt64(MC_SLICE))
        let isWhole = (raw.base | bytes) % UInt64(MC_HUGE_PAGE) == 0
        if raw.huge != 0, !isWhole || HugePages(root) == .never {
            note(.arena, .arena(raw.base), 2, "may have huge pages, and must not or can't")
        }
        let words = Int(raw.slice_count / 64)
        let none = [UInt64](repeating: 0, count: words)
        var arena = Arena(
            address: address, base: raw.base, sliceCount: raw.slice_count, used: none, dirty: none,
            committed: [UInt64](
                repeating: 0, count: (words + Int(MC_COMMIT_SLICES) - 1) / Int(MC_COMMIT_SLICES)))
        func bitmap(_ number: Int) -> UInt64 { raw.bitmaps &+ UInt64(number) &* raw.words &* 8 }
        guard try memory.loadPopulated(into: &arena.dirty, from: bitmap(MC_ARENA_DIRTY)),
            try memory.loadPopulated(into: &arena.used, from: bitmap(MC_ARENA_USED)),
            try memory.loadPopulated(into: &arena.committed, from: bitmap(MC_ARENA_COMMITTED))
        else { return note(.arena, .arena(raw.base), 1, "its bitmaps are not in memory") }
        arenas.append(arena)
    }

    /// The arena that holds an address.
    func arena(of address: UInt64) -> Arena? {
        let index = arenas.prefixCount { $0.base <= address }
        guard index > 0, address - arenas[index - 1].base < arenas[index - 1].size else {
            return nil
        }
        return arenas[index - 1]
    }

    // MARK: Spans

    /// As many as a heap of 512 GiB has.
    private static let spanLimit: UInt64 = 1 << 23
    static let spanSize = UInt64(MemoryLayout<mc_span>.size)

    private mutating func readSpans(_ memory: some MemorySource) throws(HeapImageError) {
        let limit = UInt64(MC_SPAN_POOLS_MAX)
        if root.pool_count > limit {
            note(.root, .root, 3, "\(root.pool_count) span pools, of \(limit) at most")
        }
        pools = Array(repeating: mc_heap_pool(), count: Int(min(root.pool_count, limit)))
        guard
            try memory.attempt({ () throws(HeapImageError) in
                try memory.load(into: &pools, from: root.pools)
            })
        else { return note(.root, .root, 4, "the list of span pools is not in memory") }
        var left = min(root.span_count, Self.spanLimit)
        for index in pools.indices {
            let count = min(pools[index].count, left)
            left -= count
            pools[index].count = count
            var part = [mc_span](repeating: mc_span(), count: Int(count))
            if try !memory.attempt({ () throws(HeapImageError) in
                try memory.load(into: &part, from: pools[index].start)
            }) {
                note(.root, .root, 16 + UInt64(index), "span pool \(index) is not in memory")
                part = Array(repeating: mc_span(), count: Int(count))
            }
            spans += part
        }
        if left > 0 || root.span_count > Self.spanLimit {
            note(.root, .root, 5, "\(root.span_count) spans, more than there is room for")
        }
    }

    /// Where the struct of a span lies.
    func address(ofSpan number: Int) -> UInt64 {
        var first = 0
        for pool in pools {
            if number - first < Int(pool.count) {
                return pool.start &+ UInt64(number - first) &* Self.spanSize
            }
            first += Int(pool.count)
        }
        return 0
    }

    /// The number of the span whose struct lies there.
    func span(at address: UInt64) -> Int? {
        var first = 0
        for pool in pools {
            let offset = address &- pool.start
            if offset < pool.count.times(Self.spanSize) {
                return offset % Self.spanSize == 0 ? first + Int(offset / Self.spanSize) : nil
            }
            first += Int(pool.count)
        }
        return nil
    }

    // MARK: Threads

    private mutating func readThreads(_ memory: some MemorySource) throws(HeapImageError) {
        // The list grows at its head: more than were made behind that head are a cycle.
        var address = root.threads
        let limit = min(root.thread_count, 1 << 20)
        while address != 0 {
            guard threadAt[address] == nil, threads.count < limit else {
                return note(.threads, .root, 0, "the list of threads does not end")
            }
            var thread: ThreadRecord?
            guard
                try memory.attempt({ () throws(HeapImageError) in
                    thread = try ThreadRecord(memory, at: address)
                }), let thread
            else {
                return note(
                    .threads, .root, 1, "a thread's struct, \(hex(address)), is not in memory")
            }
            threadAt[address] = threads.count
            threads.append(thread)
            address = thread.next
        }
    }
}

/// A thread's struct.
struct ThreadRecord {
    enum State: UInt32 { case free, live, busy, lost }

    var address: UInt64
    var number: UInt32
    var tid: UInt32
    /// nil: none there is.
    var state: State?
    var next: UInt64
    var notified: UInt64
    /// By class.
    var current: [UInt64]
    var spans: [UInt64]
    var kept: [UInt64]
    /// Large spans that wait to be used again.
    var large: [UInt64]
    /// Of its lists of slots of other threads' spans, one a class; 0: none.
    var cache: UInt64
    /// Bytes that the short path of free takes as slots of the span without slots.
    var limitOfNothing: UInt64

    init(_ memory: some MemorySource, at address: UInt64) throws(HeapImageError) {
        var raw = try memory.load(mc_thread.self, at: address, zero: mc_thread())
        self.address = address
        number = raw.number
        tid = raw.tid
        state = State(rawValue: raw.state)
        next = raw.next
        notified = raw.notified
        current = Self.words(&raw.current)
        spans = Self.words(&raw.spans)
        kept = Self.words(&raw.kept)
        large = Self.words(&raw.large)
        cache = raw.cache
        limitOfNothing = raw.nothing.limit
    }

    /// A fixed C array of words.
    private static func words<Words>(_ array: inout Words) -> [UInt64] {
        withUnsafeBytes(of: &array) { Array($0.bindMemory(to: UInt64.self)) }
    }
}

extension ThreadRecord {
    /// Tells whether a proxy of its cache is there.
    func hasProxy(at address: UInt64) -> Bool {
        let size = HeapStructures.spanSize
        let offset = address &- cache &- UInt64(MC_CACHE_PROXIES_AT)
        return cache != 0 && offset % size == 0 && offset / size < UInt64(MC_PROXIES)
    }

    /// Where its list of cached slots of a class is; nil: it has none.
    func cacheList(_ index: Int) -> UInt64? {
        guard cache != 0, index < Int(MC_CACHE_CLASSES) else { return nil }
        return cache &+ UInt64(index) &* HeapStructures.spanSize
    }
}

extension MemorySource {
    /// The heap root, if it is one this memctl understands.
    func heapRoot(at address: UInt64) throws(HeapImageError) -> mc_heap_root {
        let root = try load(mc_heap_root.self, at: address, zero: mc_heap_root())
        guard root.magic == MC_HEAP_MAGIC else { throw .damagedHeap(why: "no heap root") }
        guard root.version == UInt32(MC_HEAP_VERSION),
            Int(root.span_size) == MemoryLayout<mc_span>.size
        else {
            throw .otherHeap(found: root.version, expected: UInt32(MC_HEAP_VERSION))
        }
        return root
    }

    /// false where there is no memory to read.
    func attempt(
        _ body: () throws(HeapImageError) -> Void
    ) throws(HeapImageError) -> Bool {
        do throws(HeapImageError) {
            try body()
            return true
        } catch {
            guard case .unreadable = error else { throw error }
            return false
        }
    }
}

extension Array {
    /// How many elements at the beginning satisfy a condition that no later one does.
    func prefixCount(where condition: (Element) -> Bool) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = low + (high - low) / 2
            if condition(self[middle]) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
