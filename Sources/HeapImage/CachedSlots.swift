// SPDX-License-Identifier: MIT
import CRegion

/// Slots that a thread freed and keeps: those of other threads' spans, its cache (see CacheList), and
/// those of its own full spans, which serve its next requests.
///
/// They count in the `used` of the spans they lie in, but nobody uses them.
extension HeapStructures {
    /// The lists of a thread's cache; none where there is no memory to read.
    func cacheLists(
        of thread: ThreadRecord, _ memory: some MemorySource
    ) throws(HeapImageError) -> [CacheList] {
        guard thread.cache != 0 else { return [] }
        var lists: [CacheList] = []
        _ = try memory.attempt { () throws(HeapImageError) in
            lists = try CacheList.all(memory, at: thread.cache)
        }
        return lists
    }

    /// What a thread holds: the lists of its cache, of its full spans, and what it took from there to serve.
    fileprivate func cachedChains(
        of thread: ThreadRecord, _ memory: some MemorySource
    ) throws(HeapImageError) -> [CachedChain] {
        var chains = try cacheLists(of: thread, memory).map {
            CachedChain(index: $0.index, free: $0.raw.free, count: $0.count)
        }
        var serving: [mc_serving] = []
        _ = try memory.attempt { () throws(HeapImageError) in
            serving = try memory.serving(ofThread: thread.address)
        }
        for (index, list) in serving.enumerated() {
            let owner = thread.address
            if list.isScattered {
                chains.append(
                    CachedChain(
                        index: index, free: list.free, count: list.count,
                        owner: list.isReused ? owner : nil))
            }
            chains.append(
                CachedChain(
                    index: index, free: list.reuse.free, count: list.waitingCount, owner: owner))
        }
        return chains
    }

    /// Tells whether a thread keeps a slot of the class: as a free one of its own, or of another thread's; else nil.
    func cached(
        _ slot: UInt64, class index: Int, _ memory: some MemorySource
    ) throws(HeapImageError) -> SlotFact.State? {
        for thread in threads {
            for chain in try cachedChains(of: thread, memory) where chain.index == index {
                var next = chain.free
                // Longer lists there are not; one that changes meanwhile may lead in a circle.
                for _ in 0..<Self.cacheLimit where next != 0 {
                    if next == slot { return chain.owner == nil ? .remote : .free }
                    var word: [UInt64] = [0]
                    guard
                        try memory.attempt({ () throws(HeapImageError) in
                            try memory.load(into: &word, from: next)
                        })
                    else { break }
                    next = word[0]
                }
            }
        }
        return nil
    }

    /// Slots of a list, to which those of a proxy may come: limits.h of the heap has 256 each.
    static let cacheLimit = 2 * 256
}

/// Slots of several spans, of one class.
private struct CachedChain: Equatable {
    var index: Int
    var free: UInt64
    var count: UInt64
    /// The thread whose spans they all lie in; nil: whosoever.
    var owner: UInt64?
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
        checkProxies(of: thread, lists)
        for list in lists where !list.isProxy {
            guard Int32(list.raw.state) == Int32(MC_SPAN_CACHE),
                Int(list.raw.class_index) == list.index
            else {
                return note(
                    .threadSpan, .thread(thread.number), thread.cache,
                    "its cache at \(hex(thread.cache)) is none")
            }
        }
        for (index, list) in try memory.serving(ofThread: thread.address).enumerated()
        where !list.isScattered {
            counts.liveSlots = counts.liveSlots.minus(list.count)
            if list.free != 0, list.span != thread.current[index], thread.state != .lost,
                try serves(list, thread, index, memory)
            {
                note(
                    .threadSpan, .thread(thread.number), list.span,
                    "serves slots of span \(hex(list.span)), which is not its current one")
            }
        }
        try checkChains(of: thread, memory)
    }

    /// Whether the thread serves what it did when its struct was read, and its current span is another.
    private func serves(
        _ list: mc_serving, _ thread: ThreadRecord, _ index: Int, _ memory: some MemorySource
    ) throws(HeapImageError) -> Bool {
        let current = try ThreadRecord(memory, at: thread.address).current[index]
        let after = try memory.serving(ofThread: thread.address)[index]
        return current != list.span && after.equals(list)
    }

    private mutating func checkChains(
        of thread: ThreadRecord, _ memory: some MemorySource
    ) throws(HeapImageError) {
        let chains = try heap.cachedChains(of: thread, memory)
        for chain in chains {
            counts.liveSlots = counts.liveSlots.minus(chain.count)
            if chain.owner == nil {
                counts.remoteSlots += chain.count
            } else {
                counts.freeSlots += chain.count
            }
        }
        guard thread.state != .lost, chains.contains(where: { $0.free != 0 || $0.count != 0 })
        else { return }
        var found: [HeapFinding] = []
        var walked: [Int] = []
        for (number, chain) in chains.enumerated() {
            let before = found.count
            found += try findings(chain, number, thread, memory)
            if found.count > before { walked.append(number) }
        }
        guard !found.isEmpty else { return }
        let after = try heap.cachedChains(of: thread, memory)
        let changed = walked.filter { !after.contains(chains[$0]) }
        for finding in found where !changed.contains(Int(finding.at >> 48)) {
            note(finding.kind, finding.place, finding.at & (1 << 48 - 1), finding.what)
        }
    }

    /// The list's number is kept above the address.
    private func findings(
        _ chain: CachedChain, _ number: Int, _ thread: ThreadRecord, _ memory: some MemorySource
    ) throws(HeapImageError) -> [HeapFinding] {
        var found: [HeapFinding] = []
        func note(_ kind: HeapFinding.Kind, _ at: UInt64, _ what: String) {
            found.append(
                HeapFinding(
                    kind: kind, place: .thread(thread.number),
                    at: UInt64(number) << 48 | at & (1 << 48 - 1),
                    what: (chain.owner == nil ? "its cache: " : "freed in full spans: ") + what))
        }
        var slot = chain.free
        var count: UInt64 = 0
        while slot != 0 {
            guard count < HeapStructures.cacheLimit, let span = self.span(holding: slot),
                Int32(span.state) == Int32(MC_SPAN_CLASS), Int(span.class_index) == chain.index,
                (slot - span.base) % span.slotSize == 0, chain.owner ?? span.owner == span.owner
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
        if count != chain.count {
            note(.threadSpan, UInt64(chain.index), "\(count) slots, counted \(chain.count)")
        }
        return found
    }

    /// The span in use that an address lies in.
    private func span(holding address: UInt64) -> mc_span? {
        let after = inUse.prefixCount { heap.spans[$0].base <= address }
        guard after > 0 else { return nil }
        let span = heap.spans[inUse[after - 1]]
        return address - span.base < span.byteCount ? span : nil
    }
}
