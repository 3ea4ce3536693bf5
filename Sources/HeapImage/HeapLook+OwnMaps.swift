// SPDX-License-Identifier: MIT
import CRegion

/// Where each thread's frees look first: its own spans by address.
extension HeapLook {
    /// Each entry leads to a span of slots that the thread owns, from a slice of that span, or to one
    /// of its proxies.
    mutating func checkOwnMaps(_ memory: some MemorySource) throws(HeapImageError) {
        let count = UInt64(heap.root.own_map_count)
        // The entries of a page map leaf are 1 GiB of slices.
        guard count > 0, count <= UInt64(MC_PAGE_MAP_ENTRIES), count & (count - 1) == 0 else {
            return note(.root, .root, 7, "\(count) entries in each thread's map of its own spans")
        }
        for thread in heap.threads where thread.state != .lost {
            try checkOwnMap(of: thread, memory, Int(count))
        }
    }

    private mutating func checkOwnMap(
        of thread: ThreadRecord, _ memory: some MemorySource, _ count: Int
    ) throws(HeapImageError) {
        let place = HeapFinding.Place.thread(thread.number)
        if thread.limitOfNothing != 0 {
            note(
                .threads, place, 1,
                "takes \(thread.limitOfNothing) bytes that are in none of its spans for its own")
        }
        var entries = [UInt64](repeating: 0, count: count)
        let start = thread.address &+ UInt64(heap.root.own_map)
        // Of a thread that freed nothing no entry is in memory.
        _ = try memory.loadPopulated(into: &entries, from: start)
        for (index, entry) in entries.enumerated()
        where entry != 0 && !leads(entry, of: thread, fromSlice: index, modulo: count) {
            note(
                .threadSpan, place, start &+ UInt64(index) &* 8,
                "entry \(index) of its own spans leads to \(hex(thread.address &+ entry)),"
                    + " none of its own with that slice")
        }
    }

    /// To a span of the thread's that has such a slice, or to a proxy.
    ///
    /// A proxy may stand for another span by now; then it takes no frees of this one.
    private func leads(
        _ entry: UInt64, of thread: ThreadRecord, fromSlice index: Int, modulo count: Int
    ) -> Bool {
        if thread.hasProxy(at: thread.address &+ entry) { return true }
        guard let number = heap.span(at: thread.address &+ entry) else { return false }
        let span = heap.spans[number]
        let slice = UInt64(MC_SLICE)
        return Int32(span.state) == Int32(MC_SPAN_CLASS) && span.owner == thread.address
            && (UInt64(index) &- span.base / slice) % UInt64(count) < span.byteCount / slice
    }
}
