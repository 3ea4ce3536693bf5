// SPDX-License-Identifier: MIT
import CRegion
import Glibc

/// Every structure of a heap, walked, and what of it is not as the heap makes it.
///
/// The process may run on meanwhile, so a look at it finds things that were only on their way.
/// What counts is what every one of several looks finds; a span that changes whenever it is looked
/// at is `unsettled`, and not judged. No memory is read that the process has not used: reading it
/// would give it pages.
package struct HeapCheck: Sendable {
    /// What was walked.
    package struct Counts: Equatable, Sendable {
        package var arenas = 0
        package var threads = 0
        /// Spans of slots, large and huge ones, and large ones that wait to be used again.
        package var slotSpans = 0
        package var large = 0
        package var huge = 0
        package var waiting = 0
        package var liveSlots: UInt64 = 0
        package var freeSlots: UInt64 = 0
        /// Freed by others than the owner, who has not looked yet.
        package var remoteSlots: UInt64 = 0
        package var tags: UInt64 = 0
        package var pageMapEntries: UInt64 = 0

        package init() {}
    }

    package var counts = Counts()
    /// By place.
    package var findings: [HeapFinding] = []
    /// What a thread that is inside the heap just now may have left so for a moment.
    package var uncertain: [HeapFinding] = []
    package var unsettled = 0
    /// Spans of threads that a fork left behind in the parent: nobody uses them any more, and they
    /// may be as those threads left them.
    package var abandoned = 0

    package init() {}

    /// Findings there can be: a heap that was overwritten has one a slot.
    package static let findingLimit = 10_000
    /// A wrong finding in each of them takes a chance of a half or so, each time.
    private static let looks = 16

    /// `isChild`: of a forked child that shares its parent's region still.
    ///
    /// `stackCount` is how many stacks the trace knew when asked after the heap was read; nil: it
    /// can't be told.
    ///
    /// `pause` is called between two looks.
    package init(
        _ memory: some MemorySource, root: UInt64, isChild: Bool = false,
        stackCount: () -> UInt64? = { nil }, pause: () -> Void = {}
    ) throws(HeapImageError) {
        var look = HeapLook(
            try HeapStructures(memory, root: root, isChild: isChild), isAlone: nil)
        try look.run(memory, stackCount)
        counts = look.counts
        unsettled = look.unsettled
        abandoned = look.abandoned
        var remaining = look.findings
        for _ in 1..<Self.looks where !remaining.isEmpty {
            pause()
            look = HeapLook(
                try HeapStructures(memory, root: root, isChild: isChild),
                isAlone: Set(remaining.map(\.place)))
            try look.run(memory, stackCount)
            let again = Set(look.findings)
            remaining = remaining.filter { again.contains($0) }
        }
        findings = remaining.sorted()
    }

    /// Puts aside what threads inside the heap account for.
    package mutating func excuse() {
        uncertain += findings.filter(\.mayBeTransient)
        findings.removeAll(where: \.mayBeTransient)
    }
}

/// One look at a heap.
struct HeapLook {
    let heap: HeapStructures
    /// Of spans that are not among these places the lists are not walked again; nil: all are.
    let isAlone: Set<HeapFinding.Place>?
    var counts = HeapCheck.Counts()
    var findings: [HeapFinding]
    var unsettled = 0
    var abandoned = 0
    /// Numbers of the spans that are in use and make sense, by their base.
    var inUse: [Int] = []

    init(_ heap: HeapStructures, isAlone: Set<HeapFinding.Place>?) {
        self.heap = heap
        self.isAlone = isAlone
        findings = heap.damage
    }

    mutating func run(
        _ memory: some MemorySource, _ stackCount: () -> UInt64?
    ) throws(HeapImageError) {
        counts.arenas = heap.arenas.count
        counts.threads = heap.threads.count
        checkArenas()
        checkSpans()
        try checkThreads(memory)
        try checkOwnMaps(memory)
        try checkPageMap(memory)
        try checkLists(memory, stackCount)
    }

    mutating func note(
        _ kind: HeapFinding.Kind, _ place: HeapFinding.Place, _ at: UInt64, _ what: String
    ) {
        guard findings.count < HeapCheck.findingLimit else { return }
        findings.append(HeapFinding(kind: kind, place: place, at: at, what: what))
    }

    /// Threads that ran in the parent of a forked child; what they were doing stays half done.
    var hasLostThreads: Bool { heap.threads.contains { $0.state == .lost } }

    func isLost(_ thread: UInt64) -> Bool {
        heap.threadAt[thread].map { heap.threads[$0].state == .lost } ?? false
    }

    func owner(of span: mc_span) -> ThreadRecord? {
        heap.threadAt[span.owner].map { heap.threads[$0] }
    }

    // MARK: Arenas

    private mutating func checkArenas() {
        var end: UInt64 = 0
        for arena in heap.arenas {
            if arena.base < end {
                note(.arena, .arena(arena.base), 2, "another one reaches into it")
            }
            end = max(end, arena.base + arena.size)
            for word in 0..<arena.used.count {
                // A run of 64 slices, which is one word, is committed at once.
                let isCommitted = arena.committed[word / 64] >> UInt64(word % 64) & 1 != 0
                // Slices are taken first, and committed then: at a fork by a thread of the parent.
                let isTaken = arena.dirty[word] != 0 || arena.used[word] != 0 && !hasLostThreads
                guard !isCommitted, isTaken else { continue }
                note(
                    .slices, .arena(arena.base), 3 + UInt64(word),
                    "slices from \(hex(arena.base + UInt64(word) * 64 * UInt64(MC_SLICE))) are"
                        + " in use and not committed")
            }
        }
        if heap.root.thread_count < UInt64(heap.threads.count) {
            note(
                .threads, .root, 2, "\(heap.threads.count) threads, \(heap.root.thread_count) made")
        }
    }
}
