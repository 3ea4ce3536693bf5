// SPDX-License-Identifier: MIT

/// A process' region and heap, read at one time: what every report is made from.
///
/// The region can always be read; the heap only of a process that lives and whose memory may be
/// read. Without it there are no samples and no sum to compare with, and `heap` says why.
package struct Snapshot {
    package let entry: RegionEntry
    package let header: RegionHeader
    package let modules: [ModuleRecord]
    package let stacks: StackTable
    package let heap: Result<HeapWalk, HeapImageError>
    /// By row of `stacks`; all 0 without a heap.
    package let samples: [UInt64]
    /// Allocations and frees that went on while table and heap were read; 0: the numbers are those
    /// of one instant.
    package let moved: UInt64

    package init(_ entry: RegionEntry) throws(HeapImageError) {
        self.entry = entry
        // Table and heap can't be read at one instant. Of a few readings the best is kept: one that
        // no traced slot is missing from the heap in, and that the process did least during.
        var best: Reading?
        let end = bootTimeNanoseconds().plus(Self.patience)
        for _ in 0..<Self.attempts {
            let reading = try Reading(entry)
            if best.map({ reading.isBetter(than: $0) }) ?? true { best = reading }
            if reading.moved == 0 && reading.isPlausible || bootTimeNanoseconds() > end { break }
        }
        guard let best else { throw .gone(pid: entry.pid) }
        header = best.header
        stacks = best.stacks
        heap = best.heap
        moved = best.moved
        modules = try entry.file.modules(best.header)
        if case .success(let walk) = best.heap, let pid = entry.livePid {
            samples = (try? walk.samples(of: best.stacks, LiveProcess(pid: pid))) ?? []
        } else {
            samples = []
        }
    }

    /// Readings of a process that allocates without a pause; and no new one after so many ns.
    private static let attempts = 16
    private static let patience: UInt64 = 100_000_000

    /// By row of `stacks`: bytes of free slots that can't be given back because of its slots; nil
    /// without a heap.
    package func pinned() -> [UInt64]? {
        guard case .success(let walk) = heap, let pid = entry.livePid else { return nil }
        return try? walk.pinned(by: stacks, LiveProcess(pid: pid))
    }

    /// The heap alone, for what needs no stacks.
    package static func heap(of entry: RegionEntry) -> Result<HeapWalk, HeapImageError> {
        reading(entry) { (memory) throws(HeapImageError) in
            try HeapWalk(memory, root: entry.header.heapRoot, tracing: entry.header.ownLists)
        }
    }

    /// Bytes of live slots alone.
    package static func total(of entry: RegionEntry) -> Result<HeapTotal, HeapImageError> {
        reading(entry) { (memory) throws(HeapImageError) in
            try HeapTotal(memory, root: entry.header.heapRoot)
        }
    }

    private static func reading<Value>(
        _ entry: RegionEntry, _ read: (LiveProcess) throws(HeapImageError) -> Value
    ) -> Result<Value, HeapImageError> {
        Result { () throws(HeapImageError) in
            guard let pid = entry.livePid else { throw .gone(pid: entry.pid) }
            let memory = LiveProcess(pid: pid)
            do throws(HeapImageError) {
                return try read(memory)
            } catch .unreadable(let address) {
                // Nothing at all can be read of a process one may not look into.
                var byte: [UInt8] = [0]
                do throws(HeapImageError) {
                    try memory.load(into: &byte, from: entry.header.heapRoot)
                } catch {
                    if ProcessStatus(pid: pid)?.isEnding ?? true { throw .gone(pid: pid) }
                    throw error
                }
                throw .unreadable(address: address)
            }
        }
    }

    private struct Reading {
        let header: RegionHeader
        let stacks: StackTable
        let heap: Result<HeapWalk, HeapImageError>
        /// Allocations and frees from the first number read to the last.
        let moved: UInt64

        init(_ entry: RegionEntry) throws(HeapImageError) {
            var now = entry
            now.header = try entry.currentHeader()
            header = now.header
            stacks = try StackTable(entry.file, now.header)
            heap = Snapshot.heap(of: now)
            let after = try stacks.activityNow(entry.file, now.header)
            moved = after.minus(stacks.activity)
        }

        func isBetter(than other: Reading) -> Bool {
            isPlausible == other.isPlausible ? moved < other.moved : isPlausible
        }

        var isPlausible: Bool {
            guard case .success(let walk) = heap else { return true }
            return walk.usedCount >= stacks.total.live && walk.usedBytes >= stacks.total.liveUsable
        }
    }
}
