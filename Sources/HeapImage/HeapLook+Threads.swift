// SPDX-License-Identifier: MIT
import CRegion

/// Threads: what each has, and that every span of slots is somewhere.
extension HeapLook {
    mutating func checkThreads(_ memory: some MemorySource) throws(HeapImageError) {
        var placed = Set<UInt64>()
        for thread in heap.threads {
            let place = HeapFinding.Place.thread(thread.number)
            guard let state = thread.state else {
                note(.threads, place, 0, "struct \(hex(thread.address)) has no such state")
                continue
            }
            try checkCache(of: thread, memory)
            guard state != .lost else { continue }
            for index in 0..<Int(MC_CLASS_COUNT) {
                checkCurrent(thread, index, &placed)
                checkList(thread, index, &placed)
                checkKept(thread, index, &placed)
            }
            for (index, address) in thread.large.enumerated() where address != 0 {
                guard let span = span(at: address), Int32(span.state) != Int32(MC_SPAN_CLASS) else {
                    note(.threadSpan, place, address, "waiting large span \(index) is none")
                    continue
                }
            }
        }
        checkPlaces(placed)
    }

    private func span(at address: UInt64) -> mc_span? {
        heap.span(at: address).map { heap.spans[$0] }
    }

    /// A span of the thread's and the class, or what is wrong with it.
    private mutating func checked(
        _ address: UInt64, _ thread: ThreadRecord, _ index: Int, _ name: String
    ) -> mc_span? {
        guard let span = span(at: address), Int32(span.state) == Int32(MC_SPAN_CLASS),
            Int(span.class_index) == index, span.owner == thread.address
        else {
            let size = mc_class_slot_size(UInt32(index))
            note(
                .threadSpan, .thread(thread.number), address,
                "\(name) of slots of \(size) bytes, struct \(hex(address)), is not one of its own")
            return nil
        }
        return span
    }

    private mutating func checkCurrent(
        _ thread: ThreadRecord, _ index: Int, _ placed: inout Set<UInt64>
    ) {
        let address = thread.current[index]
        // A list of the cache serves its thread like a span of its own.
        guard address != heap.root.none_span, address != thread.cacheList(index),
            let span = checked(address, thread, index, "current span")
        else { return }
        placed.insert(address)
        if Int32(span.flags) & Int32(MC_SPAN_CURRENT) == 0 {
            note(
                .threadSpan, .thread(thread.number), address,
                "current span at \(hex(span.base)) does not know that it is")
        }
    }

    private mutating func checkList(
        _ thread: ThreadRecord, _ index: Int, _ placed: inout Set<UInt64>
    ) {
        var address = thread.spans[index]
        guard address != 0 else { return }
        // The first one's `previous` is the last.
        var previous = span(at: address)?.previous ?? 0
        let last = previous
        while address != 0 {
            guard let span = checked(address, thread, index, "listed span") else { return }
            guard placed.insert(address).inserted else {
                return note(
                    .threadSpan, .thread(thread.number), address,
                    "span at \(hex(span.base)) is on two lists, or on one twice")
            }
            if span.previous != previous || (span.next == 0 && address != last) {
                note(
                    .threadSpan, .thread(thread.number), address,
                    "span at \(hex(span.base)) is not linked both ways")
            }
            let odd = Int32(MC_SPAN_FULL | MC_SPAN_KEPT | MC_SPAN_CURRENT)
            if Int32(span.flags) & odd != 0 {
                note(
                    .threadSpan, .thread(thread.number), address,
                    "span at \(hex(span.base)) is listed, and full, kept or current")
            }
            previous = address
            address = span.next
        }
    }

    private mutating func checkKept(
        _ thread: ThreadRecord, _ index: Int, _ placed: inout Set<UInt64>
    ) {
        let address = thread.kept[index]
        guard address != 0, let span = checked(address, thread, index, "kept span") else { return }
        placed.insert(address)
        if Int32(span.flags) & Int32(MC_SPAN_KEPT) == 0 || span.used != 0 {
            note(
                .threadSpan, .thread(thread.number), address,
                "kept span at \(hex(span.base)) is not empty, or does not know that it is kept")
        }
    }

    private mutating func checkPlaces(_ placed: Set<UInt64>) {
        for number in inUse {
            let span = heap.spans[number]
            guard Int32(span.state) == Int32(MC_SPAN_CLASS), let owner = owner(of: span),
                owner.state != .lost, Int32(span.flags) & Int32(MC_SPAN_FULL) == 0,
                !placed.contains(heap.address(ofSpan: number))
            else { continue }
            note(
                .spanLost, .span(span.base), 0,
                "thread \(owner.number), its owner, has it on no list")
        }
    }
}
