// SPDX-License-Identifier: MIT
import CRegion

/// Slots that a thread is about to serve: taken off the list of the span that is current, all at
/// once, or out of the thread's cache; or of its full spans, and then those that wait for that too.
///
/// They count in the `used` of the spans they lie in, but nobody uses them.
extension mc_serving {
    /// How many there are.
    var count: UInt64 { UInt64(mc_counts_listed(counts)) }

    /// Nothing was taken from it, and nothing put there, between two readings: it counts what it serves,
    /// so slots that went round and came back are not taken for the same.
    func equals(_ other: mc_serving) -> Bool {
        (free, counts, span, isReused) == (other.free, other.counts, other.span, other.isReused)
    }

    /// They lie in any of the thread's full spans.
    var isReused: Bool { mc_reuse_is_served(reuse) != 0 }
    /// They lie in no span that is known: in those of other threads, of which they were cached, or in any full one.
    var isScattered: Bool { span == 0 || isReused }
    /// How many slots of full spans wait to be served.
    var waitingCount: UInt64 { UInt64(mc_reuse_count(reuse)) }

    /// Of the class in the struct of a thread.
    static func address(thread: UInt64, class index: Int) -> UInt64 {
        thread &+ UInt64(offset + index * MemoryLayout<mc_serving>.stride)
    }

    /// Where the list is to which frees of the thread's full spans of the class go.
    static func reuse(thread: UInt64, class index: Int) -> UInt64 {
        address(thread: thread, class: index) &+ UInt64(MC_SERVING_REUSE_AT)
    }

    static let offset: Int = {
        guard let offset = MemoryLayout<mc_thread>.offset(of: \mc_thread.serving) else {
            preconditionFailure("mc_thread.serving is stored")
        }
        return offset
    }()

    /// What is about to be served of a span; nothing unless it is current.
    static func place(of span: mc_span) -> UInt64? {
        guard Int32(span.flags) & Int32(MC_SPAN_CURRENT) != 0, span.owner != 0,
            Int32(span.class_index) < Int32(MC_DIRECT_CLASSES)
        else { return nil }
        return address(thread: span.owner, class: Int(span.class_index))
    }
}

extension MemorySource {
    /// Slots of a thread's full spans that it has freed, and is about to serve or will then; as many of them as
    /// its lists lead to, which change meanwhile.
    func reusedSlots(_ list: mc_serving) throws(HeapImageError) -> [UInt64] {
        let waiting = try slots(from: list.reuse.free, count: list.waitingCount)
        return try list.isReused ? waiting + slots(from: list.free, count: list.count) : waiting
    }

    private func slots(from head: UInt64, count: UInt64) throws(HeapImageError) -> [UInt64] {
        var found: [UInt64] = []
        var slot = head
        while slot != 0, slot % UInt64(MC_QUANTUM) == 0, UInt64(found.count) < count {
            found.append(slot)
            var word: [UInt64] = [0]
            guard
                try attempt({ () throws(HeapImageError) in try load(into: &word, from: slot) })
            else { break }
            slot = word[0]
        }
        return found
    }

    /// What the thread whose struct is at `address` is about to serve, by class.
    func serving(ofThread address: UInt64) throws(HeapImageError) -> [mc_serving] {
        var lists = [mc_serving](repeating: mc_serving(), count: Int(MC_DIRECT_CLASSES))
        try load(into: &lists, from: address &+ UInt64(mc_serving.offset))
        return lists
    }

    /// The list that the slots of the span whose struct is at `address` are on; an empty one if they
    /// are on none.
    func serving(
        of span: mc_span, at address: UInt64
    ) throws(HeapImageError) -> mc_serving {
        guard let place = mc_serving.place(of: span) else { return mc_serving() }
        var found = mc_serving()
        _ = try attempt { () throws(HeapImageError) in
            found = try load(mc_serving.self, at: place, zero: mc_serving())
        }
        return found.span == address && !found.isReused ? found : mc_serving()
    }
}
