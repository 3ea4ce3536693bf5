// SPDX-License-Identifier: MIT
import CRegion
import Testing

@testable import HeapImage

@Suite struct AddressLookupTests {
    private static let stack = Mapping(
        range: 0x7f00_0000_0000..<0x7f00_0010_0000, name: "")
    private static let file = Mapping(
        range: 0x5500_0000_0000..<0x5500_0000_2000, permissions: "rw-p", offset: 0x3000, inode: 9,
        name: "/usr/bin/app")
    private static let worker = ProcessThreads.Thread(
        tid: 1077, innerTid: 77, name: "worker", stackPointer: 0x7f00_000f_0000,
        programCounter: 1)

    private func lookup(_ heap: WholeHeap = WholeHeap()) throws -> AddressLookup {
        try AddressLookup(
            heap.memory(), root: WholeHeap.root, mappings: [Self.file, Self.stack],
            threads: ProcessThreads([Self.worker]))
    }

    private func slot(at address: UInt64, _ heap: WholeHeap = WholeHeap()) throws -> SlotFact? {
        guard case .slot(let slot) = try lookup(heap).fact(about: address) else { return nil }
        return slot
    }

    @Test func aLiveSlotIsKnownByAnyAddressInIt() throws {
        let slot = try #require(try slot(at: WholeHeap.address(7) + 13))
        #expect((slot.start, slot.offset, slot.size) == (WholeHeap.address(7), 13, 64))
        #expect(slot.state == .live)
        #expect(slot.tag == TagFact(stack: 2, requested: 50, birth: 9))
        #expect(slot.span.live == 58)
        #expect(slot.span.arena == WholeHeap.arena)
        #expect(slot.span.thread == HeapThreadFact(number: 1, tid: 77, name: "worker"))
        #expect(try self.slot(at: WholeHeap.address(8))?.tag == nil)
    }

    @Test func freeSlotsSayWhereTheyAre() throws {
        #expect(try slot(at: WholeHeap.address(61))?.state == .free)
        #expect(try slot(at: WholeHeap.address(59) + 63)?.state == .remote)
        #expect(try slot(at: WholeHeap.address(64))?.state == .fresh)
        var heap = WholeHeap()
        let live = try slot(at: WholeHeap.address(7), heap)?.span.live
        heap.serve()
        #expect(try slot(at: WholeHeap.address(61), heap)?.state == .free)
        #expect(try slot(at: WholeHeap.address(7), heap)?.span.live == live)
        let walk = try HeapWalk(heap.memory(), root: WholeHeap.root)
        #expect(
            try walk.usedCount == HeapWalk(WholeHeap().memory(), root: WholeHeap.root).usedCount)
        #expect(
            try HeapTotal(heap.memory(), root: WholeHeap.root).usedBytes == walk.usedBytes)
        heap = WholeHeap()
        (heap.slots.purged, heap.slots.free, heap.slots.remote) = (1, 0, 0)
        #expect(try slot(at: WholeHeap.address(5), heap)?.state == .purged)
        heap.large.state = UInt8(MC_SPAN_WAITING)
        #expect(try slot(at: WholeHeap.large, heap)?.state == .waiting)
    }

    @Test func aLargeSlotKnowsWhoAskedForIt() throws {
        let slot = try #require(try slot(at: WholeHeap.large + 5000))
        #expect(slot.span.kind == .large)
        #expect(slot.offset == 5000)
        #expect(slot.tag == TagFact(stack: 3, requested: 100_000, birth: 40))
        #expect(slot.span.thread?.number == 1)
    }

    /// The kernel tells no stack pointer of a thread that runs, the heap where its stack is.
    @Test func aRunningThreadHasAStack() throws {
        var heap = WholeHeap()
        heap.thread.stack_at = Self.stack.range.upperBound - 8
        let walk = try HeapWalk(heap.memory(), root: WholeHeap.root)
        var threads = ProcessThreads([
            ProcessThreads.Thread(tid: 1077, innerTid: 77, name: "worker"),
            ProcessThreads.Thread(tid: 1078, innerTid: 78, name: "other"),
        ])
        #expect(threads.thread(onStack: Self.stack) == nil)
        threads.addStacks(walk.threads)
        let thread = try #require(threads.thread(onStack: Self.stack))
        #expect(thread.tid == 1077)
        #expect(!thread.isUnused(Self.stack.range.lowerBound, of: Self.stack))
        #expect(threads.thread(onStack: Self.file) == nil)
        // A struct whose thread has ended, or which the parent of a forked child had.
        heap.thread.state = UInt32(MC_THREAD_LOST)
        threads.addStacks(try HeapWalk(heap.memory(), root: WholeHeap.root).threads)
        #expect(threads.thread(onStack: Self.stack) == nil)
    }

    /// One that never allocated, and runs.
    @Test func theFirstThreadsStackHasAName() throws {
        let threads = ProcessThreads(
            [
                ProcessThreads.Thread(tid: 1077, innerTid: 77, name: "worker"),
                ProcessThreads.Thread(tid: 1078, innerTid: 78, name: "first"),
            ], first: 1078)
        let stack = Mapping(range: Self.stack.range, name: "[stack]")
        #expect(threads.thread(onStack: stack)?.tid == 1078)
        #expect(threads.thread(onStack: Mapping(range: Self.stack.range, name: "[heap]")) == nil)
    }

    @Test func theRestIsNamed() throws {
        let lookup = try lookup()
        let end = WholeHeap.arena + 20 * UInt64(MC_SLICE)
        #expect(try lookup.fact(about: end) == .free(arena: WholeHeap.arena, size: 1 << 20))
        #expect(
            try lookup.fact(about: WholeHeap.pool + 5)
                == .structure("the struct of the span at \(hex(WholeHeap.slots))"))
        #expect(try lookup.fact(about: WholeHeap.thread) == .structure("the struct of thread 1"))
        #expect(
            try lookup.fact(about: WholeHeap.tags + 8)
                == .structure("the tags of the span at \(hex(WholeHeap.slots))"))
        #expect(
            try lookup.fact(about: 0x5500_0000_0001) == .mapping(Self.file, stackOf: nil))
        #expect(
            try lookup.fact(about: 0x7f00_000f_8000)
                == .mapping(Self.stack, stackOf: Self.worker))
        #expect(
            try lookup.fact(about: 0x6000_0000_0000)
                == .unmapped(below: Self.file, above: Self.stack))
    }

    /// The clock of births goes round.
    @Test func ageIsTheShortestThatFits() {
        let tag = TagFact(stack: 2, requested: 1, birth: TaggedSlot.birthLimit - 4)
        let quarter = TaggedSlot.birthNanoseconds
        #expect(tag.age(now: 1000 + 4 * quarter, since: 1000) == 8 * quarter)
        #expect(
            TagFact(stack: 2, requested: 1, birth: 3).age(now: 7 * quarter, since: 0) == 4 * quarter
        )
    }

    @Test func wordsThatPointThereAreFound() throws {
        var memory = PieceMemory()
        let target: Range<UInt64> = 0x4000_0000..<0x4000_0040
        var words = [UInt64](repeating: 7, count: 512)
        (words[1], words[9], words[10]) = (0x4000_0000, 0x4000_003f, 0x4000_0040)
        words[100] = 0x4000_0010
        memory.put(words, at: 0x10000)
        let mappings = [
            Mapping(range: 0x10000..<0x11000), Mapping(range: 0x20000..<0x21000),
            Mapping(range: 0x30000..<0x31000, permissions: "r--p"),
        ]
        let scan = try ReferenceScan(
            memory, in: mappings, targets: [target], skipping: [0x10320..<0x10328],
            registers: [ThreadRegisters.Register(tid: 5, name: "rbx", value: 0x4000_0008)],
            progress: { _ in })
        #expect(scan.counts == [3])
        #expect(
            scan.references.map(\.holder) == [
                .register(tid: 5, name: "rbx"), .memory(address: 0x10008),
                .memory(address: 0x10048),
            ])
    }
}
