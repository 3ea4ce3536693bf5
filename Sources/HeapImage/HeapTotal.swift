// SPDX-License-Identifier: MIT
import CRegion

/// Bytes of live slots: HeapWalk's `usedBytes`, by one look at each span that keeps nothing.
package struct HeapTotal: Equatable, Sendable {
    package let usedBytes: UInt64

    package init(_ memory: some MemorySource, root address: UInt64) throws(HeapImageError) {
        let root = try memory.heapRoot(at: address)
        let threads = try HeapThread.all(memory, root)
        var used: UInt64 = 0
        try SpanReader.forEach(memory, root) { raw, _ in
            guard Int32(raw.state) != Int32(MC_SPAN_WAITING), let span = HeapWalk.Span(raw) else {
                return
            }
            used = used.plus(span.liveBytes)
        }
        for thread in threads {
            for list in try thread.cacheLists(memory) {
                used = used.minus(list.count.times(mc_class_slot_size(UInt32(list.index))))
            }
            for (index, list) in try memory.serving(ofThread: thread.address).enumerated() {
                let count = list.count.plus(list.waitingCount)
                used = used.minus(count.times(mc_class_slot_size(UInt32(index))))
            }
        }
        usedBytes = used
    }
}
