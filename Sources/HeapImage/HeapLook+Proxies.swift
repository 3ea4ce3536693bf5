// SPDX-License-Identifier: MIT
import CRegion

/// What stands for other threads' spans where a thread frees: proxy.h of the heap.
extension HeapLook {
    /// One that serves frees has slots, and knows the span they lie in as it is.
    ///
    /// What a fork left in the middle of something serves nobody.
    mutating func checkProxies(of thread: ThreadRecord, _ lists: [CacheList]) {
        guard thread.state != .lost else { return }
        for list in lists where list.isProxy && list.raw.limit != 0 {
            let proxy = list.raw
            guard list.count > 0, let number = heap.span(at: list.standsFor),
                stands(proxy, for: heap.spans[number])
            else {
                note(
                    .threadSpan, .thread(thread.number), list.standsFor,
                    "takes frees at \(hex(proxy.base)) for another's span"
                        + " \(hex(list.standsFor)), which is not there")
                continue
            }
        }
    }

    private func stands(_ proxy: mc_span, for span: mc_span) -> Bool {
        Int32(span.state) == Int32(MC_SPAN_CLASS) && span.class_index == proxy.class_index
            && span.base == proxy.base && span.mark == proxy.mark
            && span.reciprocal == proxy.reciprocal
            && proxy.limit <= mc_limit_of(UInt64(span.slot_count), span.slotSize)
    }
}
