// SPDX-License-Identifier: MIT
import CRegion

/// Slots of other threads' spans that a thread freed and keeps: its cache, a list a class.
///
/// They count in the `used` of the spans they lie in, but nobody uses them.
extension HeapStructures {
    /// The lists of a thread's cache, by class; none that makes no sense.
    func cacheLists(
        of thread: ThreadRecord, _ memory: some MemorySource
    ) throws(HeapImageError) -> [mc_span] {
        guard thread.cache != 0 else { return [] }
        var lists = [mc_span](repeating: mc_span(), count: Int(MC_CACHE_CLASSES))
        guard
            try memory.attempt({ () throws(HeapImageError) in
                try memory.load(into: &lists, from: thread.cache)
            })
        else { return [] }
        return lists
    }

    /// Tells whether a slot of the class is in a thread's cache.
    func isCached(
        _ slot: UInt64, class index: Int, _ memory: some MemorySource
    ) throws(HeapImageError) -> Bool {
        guard index < Int(MC_CACHE_CLASSES) else { return false }
        for thread in threads {
            let lists = try cacheLists(of: thread, memory)
            guard index < lists.count else { continue }
            var next = lists[index].free
            // Longer lists there are not; one that changes meanwhile may lead in a circle.
            for _ in 0..<Self.cacheLimit where next != 0 {
                if next == slot { return true }
                var word: [UInt64] = [0]
                guard
                    try memory.attempt({ () throws(HeapImageError) in
                        try memory.load(into: &word, from: next)
                    })
                else { break }
                next = word[0]
            }
        }
        return false
    }

    /// Slots of a list: limits.h of the heap has 128.
    private static let cacheLimit = 256
}

extension HeapLook {
    /// Counts what a thread caches as freed; its lists must say what they are.
    mutating func countCache(
        of thread: ThreadRecord, _ memory: some MemorySource
    ) throws(HeapImageError) {
        for (index, list) in try heap.cacheLists(of: thread, memory).enumerated() {
            guard Int32(list.state) == Int32(MC_SPAN_CACHE), Int(list.class_index) == index else {
                return note(
                    .threadSpan, .thread(thread.number), thread.cache,
                    "its cache at \(hex(thread.cache)) is none")
            }
            let count = UInt64(0 &- list.used) & 0xffff
            counts.liveSlots = counts.liveSlots.minus(count)
            counts.remoteSlots += count
        }
    }
}
