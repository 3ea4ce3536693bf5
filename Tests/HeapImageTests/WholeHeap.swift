// SPDX-License-Identifier: MIT
import CRegion

@testable import HeapImage

/// A heap of one arena and one thread, in which everything agrees: a span of slots of 64 bytes
/// with free and remotely freed ones, a large slot, and a page map.
struct WholeHeap {
    static let root: UInt64 = 0x1000
    static let noSpan: UInt64 = 0x700
    static let thread: UInt64 = 0x4000
    static let ownMap: UInt64 = thread + 0x2000
    static let arena: UInt64 = 0x4000_0000
    static let pool: UInt64 = 0x10_0000
    static let tags: UInt64 = 0x9000
    /// Of the slots from `firstOfMore` on.
    static let moreTags: UInt64 = 0x1_9000
    static let firstOfMore = 256
    static let mark: UInt64 = 0xabc1
    static let slotSize: UInt64 = 64
    static let classIndex = 3
    static let slots: UInt64 = arena
    static let large: UInt64 = arena + 4 * UInt64(MC_SLICE)

    var heapRoot = mc_heap_root()
    var arena = mc_arena()
    /// In the order used, committed, dirty, aging.
    var bitmaps: [UInt64] = [0x7ff, 1, 0x7ff, 0]
    var slots = mc_span()
    var large = mc_span()
    var thread = mc_thread()
    /// (next, mark) of each slot ever carved.
    var heads = [(UInt64, UInt64)](repeating: (0x11, 0x22), count: 64)
    var tags = [UInt64](repeating: 0, count: 1024)
    /// By slice, modulo their number: the thread met two slices of its span.
    var ownMap = [UInt64](repeating: 0, count: 64)
    /// By slice of the arena.
    var entries = [UInt64](repeating: 0, count: Int(MC_PAGE_MAP_ENTRIES))

    init() {
        heapRoot.magic = MC_HEAP_MAGIC
        heapRoot.version = UInt32(MC_HEAP_VERSION)
        heapRoot.span_size = UInt32(MemoryLayout<mc_span>.size)
        (heapRoot.arena_count, heapRoot.arenas) = (1, 0x2000)
        (heapRoot.pool_count, heapRoot.pools, heapRoot.span_count) = (1, 0x3000, 3)
        (heapRoot.threads, heapRoot.thread_count) = (Self.thread, 1)
        (heapRoot.page_map, heapRoot.none_span) = (0x100_0000, Self.noSpan)
        (heapRoot.own_map, heapRoot.own_map_count) = (UInt32(Self.ownMap - Self.thread), 64)
        ownMap[0] = Self.pool - Self.thread
        ownMap[3] = Self.pool - Self.thread
        (arena.base, arena.slice_count, arena.words) = (Self.arena, 64, 1)
        arena.bitmaps = 0x2200
        makeSlots()
        large.base = Self.large
        (large.size, large.slot_size) = (7 * UInt64(MC_SLICE), 102400)
        large.class_index = UInt8(MC_CLASS_LARGE)
        (large.slot_count, large.used, large.fresh) = (1, 1, 1)
        (large.state, large.flags) = (UInt8(MC_SPAN_LARGE), UInt8(MC_SPAN_TAGGED))
        (large.tag, large.requested) = (mc_tag_make(3, 0, 40), 100_000)
        large.maker = Self.thread
        for slice in 0..<4 { entries[slice] = Self.pool }
        entries[4] = Self.pool + 128
        makeThread()
    }

    private mutating func makeSlots() {
        slots.base = Self.slots
        (slots.list, slots.slot_count) = (Self.pool + UInt64(MC_SPAN_LIST_AT), 1024)
        slots.reciprocal = mc_reciprocal_of(Self.slotSize)
        // 61 in use: one for being current, two freed by others.
        (slots.used, slots.allocations, slots.fresh) = (61, 100, 64)
        slots.state = UInt8(MC_SPAN_CLASS)
        slots.flags = UInt8(MC_SPAN_TAGGED | MC_SPAN_CURRENT)
        slots.class_index = UInt8(Self.classIndex)
        (slots.mark, slots.owner, slots.tags) = (Self.mark, Self.thread, Self.tags)
        slots.free = Self.address(60)
        for slot in 60..<64 { heads[slot] = (slot < 63 ? Self.address(slot + 1) : 0, Self.mark) }
        slots.remote = 2 << 48 | Self.address(58)
        heads[58] = (Self.address(59), Self.mark)
        heads[59] = (0, Self.mark)
        tags[7] = mc_tag_make(2, 14, 9)
    }

    /// So many more slots are in use, all with tags of stack 2 but those of the first array that had none.
    mutating func use(_ more: Int) {
        slots.more_tags = Self.moreTags - UInt64(Self.firstOfMore) * 8
        (slots.used, slots.allocations) = (61 + Int32(more), 100 + UInt32(more))
        slots.fresh += UInt16(more)
        heads += [(UInt64, UInt64)](repeating: (0x11, 0x22), count: more)
        for slot in Self.firstOfMore..<heads.count { tags[slot] = mc_tag_make(2, 4, 9) }
    }

    /// The free slots are about to be served.
    mutating func serve(count: UInt64 = 4, span: UInt64 = pool) {
        (slots.free, slots.used) = (0, 61 + 4)
        put(
            mc_serving(
                free: Self.address(60), counts: 0 &- count, span: span,
                reuse: Self.reuse(served: 0)))
    }

    /// The same of slots of full spans: two of them are, two wait for that.
    mutating func reuse(waiting: Int32 = 2) {
        (slots.free, slots.used) = (0, 61 + 4)
        heads[61].0 = 0
        var list = Self.reuse(served: UInt32(MC_REUSE_SERVED))
        (list.free, list.used) = (Self.address(62), list.used - waiting)
        put(mc_serving(free: Self.address(60), counts: 0 &- 2, span: 0, reuse: list))
    }

    private static func reuse(served: UInt32) -> mc_list {
        mc_list(free: 0, used: 64, more: 64 | served)
    }

    private mutating func put(_ list: mc_serving) {
        withUnsafeMutableBytes(of: &thread.serving) {
            $0.storeBytes(
                of: list, toByteOffset: Self.classIndex * MemoryLayout<mc_serving>.stride,
                as: mc_serving.self)
        }
    }

    private mutating func makeThread() {
        thread.state = UInt32(MC_THREAD_LIVE)
        (thread.number, thread.tid) = (1, 77)
        withUnsafeMutableBytes(of: &thread.current) {
            for index in 0..<Int(MC_CLASS_COUNT) {
                $0.storeBytes(
                    of: index == Self.classIndex ? Self.pool : Self.noSpan,
                    toByteOffset: index * 8, as: UInt64.self)
            }
        }
    }

    static func address(_ slot: Int) -> UInt64 { slots + UInt64(slot) * slotSize }

    func memory() -> PieceMemory {
        var memory = PieceMemory()
        memory.put(heapRoot, at: Self.root)
        memory.put([UInt64(0x2100)], at: 0x2000)
        memory.put(arena, at: 0x2100)
        memory.put(bitmaps, at: 0x2200)
        memory.put([mc_heap_pool(start: Self.pool, count: 2048)], at: 0x3000)
        memory.put([slots, large, mc_span()], at: Self.pool)
        memory.put(thread, at: Self.thread)
        memory.put(ownMap, at: Self.ownMap)
        memory.put(Array(tags[..<Self.firstOfMore]), at: Self.tags)
        memory.put(Array(tags[Self.firstOfMore...]), at: Self.moreTags)
        var leaves = [UInt64](repeating: 0, count: Int(MC_PAGE_MAP_ROOTS))
        leaves[1] = 0x200_0000
        memory.put(leaves, at: 0x100_0000)
        memory.put(entries, at: 0x200_0000)
        var words = [UInt64](repeating: 0, count: heads.count * 8)
        for (slot, head) in heads.enumerated() {
            (words[slot * 8], words[slot * 8 + 1]) = head
        }
        memory.put(words, at: Self.slots)
        return memory
    }
}
