// SPDX-License-Identifier: MIT
import CRegion

/// What a thread of the program owns of the heap; it outlives the thread, and serves another.
package struct HeapThread: Equatable, Sendable {
    /// Of its struct: what spans name their owner by.
    package var address: UInt64
    /// From 1 on, in the order in which they were made.
    package var number: UInt32
    /// The kernel's id of the thread that has it or had it last, in the process' own pid namespace.
    package var tid: UInt32
    /// A thread of the process has it.
    ///
    /// One that ended counts until somebody notices.
    package var isLive: Bool
    /// Ran in the parent of a forked child: nobody looks after its slots.
    package var isLost: Bool
    /// Of its lists of slots of other threads' spans; 0: it has none.
    package var cache: UInt64
    /// An address on its stack; 0: not known.
    package var stackAt: UInt64

    package init(
        address: UInt64, number: UInt32, tid: UInt32, isLive: Bool = true, isLost: Bool = false,
        cache: UInt64 = 0, stackAt: UInt64 = 0
    ) {
        self.address = address
        self.number = number
        self.tid = tid
        self.isLive = isLive
        self.isLost = isLost
        self.cache = cache
        self.stackAt = stackAt
    }

    /// The lists of its cache.
    func cacheLists(_ memory: some MemorySource) throws(HeapImageError) -> [CacheList] {
        cache == 0 ? [] : try CacheList.all(memory, at: cache)
    }

    static func all(
        _ memory: some MemorySource, _ root: mc_heap_root
    ) throws(HeapImageError) -> [HeapThread] {
        var address = root.threads
        var threads: [HeapThread] = []
        // The list grows at its head, so more than `thread_count` behind that head is a cycle.
        for _ in 0..<min(root.thread_count, 1 << 20) where address != 0 {
            let thread = try memory.load(mc_thread.self, at: address, zero: mc_thread())
            let state = thread.state
            threads.append(
                HeapThread(
                    address: address, number: thread.number, tid: thread.tid,
                    isLive: state != UInt32(MC_THREAD_FREE) && state != UInt32(MC_THREAD_LOST),
                    isLost: state == UInt32(MC_THREAD_LOST), cache: thread.cache,
                    stackAt: thread.stack_at))
            address = thread.next
        }
        return threads
    }
}
