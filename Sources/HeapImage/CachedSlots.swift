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
    static let cacheLimit = 256
}

extension HeapLook {
    /// Counts what a thread caches as freed, and follows its lists: every slot is one of its class,
    /// free by its mark, and as many as the list says.
    ///
    /// A list that changes while it is followed is left for the next look.
    mutating func checkCache(
        of thread: ThreadRecord, _ memory: some MemorySource
    ) throws(HeapImageError) {
        let lists = try heap.cacheLists(of: thread, memory)
        for (index, list) in lists.enumerated() {
            guard Int32(list.state) == Int32(MC_SPAN_CACHE), Int(list.class_index) == index else {
                return note(
                    .threadSpan, .thread(thread.number), thread.cache,
                    "its cache at \(hex(thread.cache)) is none")
            }
            let count = list.cachedCount
            counts.liveSlots = counts.liveSlots.minus(count)
            counts.remoteSlots += count
        }
        guard thread.state != .lost, lists.contains(where: { $0.free != 0 || $0.used != 0 }) else {
            return
        }
        var found: [HeapFinding] = []
        var walked: [Int] = []
        for (index, list) in lists.enumerated() {
            let before = found.count
            found += try cacheFindings(list, index, thread, memory)
            if found.count > before { walked.append(index) }
        }
        guard !found.isEmpty else { return }
        let after = try heap.cacheLists(of: thread, memory)
        guard after.count == lists.count else { return }
        let changed = walked.filter { !lists[$0].equals(after[$0]) }
        for finding in found where !changed.contains(Int(finding.at >> 48)) {
            note(finding.kind, finding.place, finding.at & (1 << 48 - 1), finding.what)
        }
    }

    /// The list's number is kept above the address.
    private func cacheFindings(
        _ list: mc_span, _ index: Int, _ thread: ThreadRecord, _ memory: some MemorySource
    ) throws(HeapImageError) -> [HeapFinding] {
        var found: [HeapFinding] = []
        func note(_ kind: HeapFinding.Kind, _ at: UInt64, _ what: String) {
            found.append(
                HeapFinding(
                    kind: kind, place: .thread(thread.number),
                    at: UInt64(index) << 48 | at & (1 << 48 - 1), what: "its cache: " + what))
        }
        var slot = list.free
        var count: UInt64 = 0
        while slot != 0 {
            guard count < HeapStructures.cacheLimit, let span = self.span(holding: slot),
                Int32(span.state) == Int32(MC_SPAN_CLASS), Int(span.class_index) == index,
                (slot - span.base) % span.slot_size == 0
            else {
                note(.listLink, slot, "leads to \(hex(slot)), no slot of its class, or in a circle")
                return found
            }
            var words: [UInt64] = [0, 0]
            guard
                try memory.attempt({ () throws(HeapImageError) in
                    try memory.load(into: &words, from: slot)
                })
            else { return found }
            if words[1] != span.mark {
                note(
                    .listMark, slot,
                    "slot \(hex(slot)) was written to after it was freed:"
                        + " \(hex(words[1])) at \(hex(slot + 8)), where its mark was")
            }
            count += 1
            slot = words[0]
        }
        if count != list.cachedCount {
            note(.threadSpan, UInt64(index), "\(count) slots, counted \(list.cachedCount)")
        }
        return found
    }

    /// The span in use that an address lies in.
    private func span(holding address: UInt64) -> mc_span? {
        let after = inUse.prefixCount { heap.spans[$0].base <= address }
        guard after > 0 else { return nil }
        let span = heap.spans[inUse[after - 1]]
        return address - span.base < span.size ? span : nil
    }
}
