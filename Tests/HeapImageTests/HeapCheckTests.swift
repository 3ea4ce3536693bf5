// SPDX-License-Identifier: MIT
import CRegion
import Testing

@testable import HeapImage

@Suite struct HeapCheckTests {
    private func kinds(_ heap: WholeHeap, stacks: UInt64? = nil) throws -> [HeapFinding.Kind] {
        try HeapCheck(heap.memory(), root: WholeHeap.root, stackCount: { stacks }).findings
            .map(\.kind)
    }

    @Test func aWholeHeapIsClean() throws {
        let check = try HeapCheck(WholeHeap().memory(), root: WholeHeap.root, stackCount: { 4 })
        #expect(check.findings == [])
        #expect(check.unsettled == 0)
        var counts = HeapCheck.Counts()
        (counts.arenas, counts.threads, counts.slotSpans, counts.large) = (1, 1, 1, 1)
        (counts.liveSlots, counts.freeSlots, counts.remoteSlots) = (59, 4, 2)
        (counts.tags, counts.pageMapEntries) = (1, 5)
        #expect(check.counts == counts)
    }

    @Test func listsAreFollowed() throws {
        var heap = WholeHeap()
        heap.heads[61].1 ^= 1
        #expect(try kinds(heap) == [.listMark])
        heap = WholeHeap()
        heap.heads[61].0 = WholeHeap.address(60)
        #expect(try kinds(heap) == [.listLink])
        heap = WholeHeap()
        heap.heads[61].0 = WholeHeap.address(64)
        #expect(try kinds(heap) == [.listLink])
        heap = WholeHeap()
        heap.heads[61].0 += 8
        #expect(try kinds(heap) == [.listLink])
        heap = WholeHeap()
        heap.heads[62].0 = 0
        #expect(try kinds(heap) == [.spanCounts])
        heap = WholeHeap()
        heap.slots.remote = 3 << 48 | WholeHeap.address(58)
        #expect(try kinds(heap) == [.spanCounts])
        heap = WholeHeap()
        heap.heads[59].0 = WholeHeap.address(60)
        #expect(try kinds(heap) == [.listShared])
        heap = WholeHeap()
        heap.tags[62] = 5
        #expect(try kinds(heap) == [.listTag])
    }

    @Test func tagsNameStacksThereAre() throws {
        #expect(try kinds(WholeHeap(), stacks: 3) == [])
        #expect(try kinds(WholeHeap(), stacks: 2) == [.tag])
    }

    @Test func tagsOfTheSecondArrayAreLookedAt() throws {
        var heap = WholeHeap()
        heap.use(336)
        #expect(try kinds(heap, stacks: 3) == [])
        heap.tags[399] = mc_tag_make(3, 0, 1)
        #expect(try kinds(heap, stacks: 3) == [.tag])
        heap.tags[399] = 0
        heap.slots.free = WholeHeap.address(399)
        heap.heads[399] = (WholeHeap.address(60), WholeHeap.mark)
        heap.slots.used -= 1
        #expect(try kinds(heap, stacks: 3) == [])
        heap.tags[399] = mc_tag_make(2, 0, 1)
        #expect(try kinds(heap, stacks: 3) == [.listTag])
    }

    @Test func partsThatWereGivenBackAreFree() throws {
        var heap = WholeHeap()
        // All of the span's first page, which is its first 64th.
        (heap.slots.purged, heap.slots.free, heap.slots.remote) = (1, 0, 0)
        heap.slots.used = 1
        heap.tags[7] = 0
        #expect(try kinds(heap) == [])
        heap.slots.free = WholeHeap.address(3)
        #expect(try kinds(heap) == [.listLink])
    }

    @Test func wholeSpansThatWereGivenBackWaitForTheirOwner() throws {
        var heap = WholeHeap()
        heap.slots.flags = UInt8(MC_SPAN_FULL)
        heap.slots.list = mc_serving.reuse(
            thread: WholeHeap.thread, class: WholeHeap.classIndex)
        (heap.slots.used, heap.slots.fresh) = (0, heap.slots.slot_count)
        (heap.slots.free, heap.slots.limit) = (0, 0)
        heap.slots.purged = UInt64.max
        heap.slots.remote = UInt64(MC_REMOTE_GONE)
        heap.tags[7] = 0
        #expect(try !kinds(heap).contains(.spanState))
        heap.slots.used = 1
        #expect(try kinds(heap).contains(.spanState))
        heap.slots.used = 0
        heap.slots.remote = 0
        #expect(try kinds(heap).contains(.spanState))
    }

    @Test func spansAreOfTheirClass() throws {
        var heap = WholeHeap()
        heap.slots.reciprocal += 1
        #expect(try kinds(heap).contains(.spanBounds))
        heap = WholeHeap()
        heap.slots.class_index = 200
        #expect(try kinds(heap).contains(.spanBounds))
        heap = WholeHeap()
        heap.slots.state = 9
        #expect(try kinds(heap).contains(.spanState))
        heap = WholeHeap()
        heap.slots.owner = 0x5000
        #expect(try kinds(heap).contains(.spanState))
        heap = WholeHeap()
        heap.large.size += UInt64(MC_SLICE)
        #expect(try kinds(heap) == [.slices])
        heap = WholeHeap()
        heap.large.base = WholeHeap.slots
        #expect(try kinds(heap).contains(.spanOverlap))
        heap = WholeHeap()
        heap.heapRoot.huge_bytes = 4096
        #expect(try kinds(heap) == [.hugeSums])
    }

    @Test func hugePagesAreWhereTheyCanBe() throws {
        var heap = WholeHeap()
        heap.heapRoot.huge_pages = 77
        #expect(try kinds(heap) == [.root])
        heap = WholeHeap()
        heap.arena.huge = 1
        #expect(try kinds(heap) == [.arena])
    }

    @Test func thePageMapLeadsToSpansAndNothingElse() throws {
        var heap = WholeHeap()
        heap.entries[2] = 0
        #expect(try kinds(heap) == [.pageMap])
        heap = WholeHeap()
        heap.entries[5] = WholeHeap.pool + 128
        #expect(try kinds(heap) == [.pageMapStray])
        heap = WholeHeap()
        heap.entries[20] = WholeHeap.pool + 8
        #expect(try kinds(heap) == [.pageMapStray])
        heap = WholeHeap()
        heap.entries[20] = WholeHeap.pool + 256
        #expect(try kinds(heap) == [.pageMapStray])
        // In a forked child another thread may have been about to make that span.
        heap.thread.state = UInt32(MC_THREAD_LOST)
        #expect(try kinds(heap) == [])
        // Or to give one of its own back; that it leads elsewhere is no such thing.
        heap.entries[20] = 0
        heap.entries[2] = 0
        #expect(try kinds(heap) == [])
        heap.entries[2] = WholeHeap.pool + 128
        #expect(try kinds(heap).contains(.pageMap))
    }

    @Test func aLeafThatWasJustMadeHasNoMemory() throws {
        var heap = WholeHeap()
        var memory = heap.memory()
        memory.pieces[0x200_0000] = nil
        var check = try HeapCheck(memory, root: WholeHeap.root)
        #expect(check.findings.map(\.kind) == [.pageMap])
        check.excuse()
        #expect(check.findings.isEmpty && check.uncertain.count == 1)
        // It is zero, so that spans are not led to shows; that it has none to lead to is no damage.
        memory = heap.memory()
        memory.untouched = [0x200_0000]
        check = try HeapCheck(memory, root: WholeHeap.root)
        #expect(Set(check.findings.map(\.kind)) == [.pageMap] && check.findings.count > 1)
        memory = heap.memory()
        var leaves = [UInt64](repeating: 0, count: Int(MC_PAGE_MAP_ROOTS))
        (leaves[1], leaves[2]) = (0x200_0000, 0x300_0000)
        memory.put(leaves, at: 0x100_0000)
        memory.untouched = [0x300_0000]
        #expect(try HeapCheck(memory, root: WholeHeap.root).findings.isEmpty)
        memory.untouched = []
        #expect(try HeapCheck(memory, root: WholeHeap.root).findings.map(\.kind) == [.pageMap])
        heap.thread.state = UInt32(MC_THREAD_LOST)
        memory = heap.memory()
        memory.pieces[0x200_0000] = nil
        #expect(try HeapCheck(memory, root: WholeHeap.root).findings.isEmpty)
    }

    @Test func aThreadHasItsSpans() throws {
        var heap = WholeHeap()
        heap.slots.flags = UInt8(MC_SPAN_TAGGED)
        heap.slots.used -= 1
        #expect(try kinds(heap) == [.threadSpan])
        heap = WholeHeap()
        heap.thread.next = WholeHeap.thread
        #expect(try kinds(heap) == [.threads])
        heap = WholeHeap()
        withUnsafeMutableBytes(of: &heap.thread.current) {
            $0.storeBytes(
                of: WholeHeap.noSpan, toByteOffset: WholeHeap.classIndex * 8, as: UInt64.self)
        }
        #expect(try kinds(heap).contains(.spanLost))
    }

    @Test func aThreadsFreesFindItsOwnSpans() throws {
        var heap = WholeHeap()
        heap.ownMap[1] = WholeHeap.pool + 128 - WholeHeap.thread
        #expect(try kinds(heap) == [.threadSpan])
        heap = WholeHeap()
        heap.ownMap[4] = heap.ownMap[3]
        #expect(try kinds(heap) == [.threadSpan])
        heap = WholeHeap()
        heap.ownMap[3] += 8
        #expect(try kinds(heap) == [.threadSpan])
        // Of a thread that is not in this process nothing is judged.
        heap.thread.state = UInt32(MC_THREAD_LOST)
        #expect(try kinds(heap) == [])
        heap = WholeHeap()
        heap.thread.nothing.limit = 16
        #expect(try kinds(heap) == [.threads])
        heap = WholeHeap()
        heap.heapRoot.own_map_count = 48
        #expect(try kinds(heap) == [.root])
    }

    @Test func slotsToBeServedAreFree() throws {
        var heap = WholeHeap()
        let counts = try HeapCheck(heap.memory(), root: WholeHeap.root).counts
        heap.serve()
        #expect(try kinds(heap) == [])
        let served = try HeapCheck(heap.memory(), root: WholeHeap.root).counts
        #expect(served.liveSlots == counts.liveSlots && served.freeSlots == counts.freeSlots)
        heap.heads[61].1 = 7
        #expect(try kinds(heap) == [.listMark])
        heap.heads[61] = (WholeHeap.address(59), WholeHeap.mark)  // one that others freed
        #expect(try kinds(heap) == [.listShared])
        heap = WholeHeap()
        heap.serve(count: 3)
        #expect(try kinds(heap) == [.spanCounts])
    }

    @Test func slotsOfFullSpansAreFree() throws {
        var heap = WholeHeap()
        let counts = try HeapCheck(heap.memory(), root: WholeHeap.root).counts
        heap.reuse()
        #expect(try kinds(heap) == [])
        let reused = try HeapCheck(heap.memory(), root: WholeHeap.root).counts
        #expect(reused.liveSlots == counts.liveSlots && reused.freeSlots == counts.freeSlots)
        #expect(reused.remoteSlots == counts.remoteSlots)
        heap.heads[63].1 = 7
        #expect(try kinds(heap) == [.listMark])
        heap = WholeHeap()
        heap.reuse(waiting: 3)
        #expect(try kinds(heap) == [.threadSpan])
        heap = WholeHeap()
        heap.reuse()
        heap.heads[63].0 = WholeHeap.large
        #expect(try kinds(heap) == [.listLink])
        heap = WholeHeap()
        heap.slots.list += 8
        #expect(try kinds(heap) == [.spanState])
    }

    /// A fork left the thread behind in the middle of something.
    @Test func whatALostThreadCountedIsNotJudged() throws {
        var heap = WholeHeap()
        (heap.slots.used, heap.slots.remote) = (0, 0)
        #expect(try kinds(heap) == [.spanCounts])
        heap.thread.state = UInt32(MC_THREAD_LOST)
        #expect(try kinds(heap) == [])
        heap = WholeHeap()
        heap.serve(span: WholeHeap.noSpan)
        heap.thread.state = UInt32(MC_THREAD_LOST)
        #expect(try kinds(heap) == [])
    }

    @Test func cachedSlotsToBeServedAreChecked() throws {
        var heap = WholeHeap()
        heap.serve(span: 0)
        #expect(try kinds(heap) == [])
        heap.heads[61].1 = 7
        #expect(try kinds(heap) == [.listMark])
        heap = WholeHeap()
        heap.serve(count: 3, span: 0)
        #expect(try kinds(heap) == [.threadSpan])
        heap.serve(span: WholeHeap.noSpan)
        #expect(try kinds(heap).contains(.threadSpan))
    }

    @Test func whatAThreadIsInTheMiddleOfIsExcused() throws {
        var heap = WholeHeap()
        heap.slots.used += 1
        heap.heads[61].1 = 7
        var check = try HeapCheck(heap.memory(), root: WholeHeap.root)
        #expect(check.findings.map(\.kind) == [.spanCounts, .listMark])
        check.excuse()
        #expect(check.findings.map(\.kind) == [.listMark])
        #expect(check.uncertain.map(\.kind) == [.spanCounts])
    }

    /// Slots go from list to list all at once, and are on both for a moment.
    @Test func slotsOnTheirWayAreExcused() throws {
        var heap = WholeHeap()
        heap.serve()
        heap.slots.free = WholeHeap.address(61)
        var check = try HeapCheck(heap.memory(), root: WholeHeap.root)
        #expect(check.findings.map(\.kind) == [.listShared])
        check.excuse()
        #expect(check.findings.isEmpty && check.uncertain.count == 1)
        heap = WholeHeap()
        heap.serve()
        heap.heads[61].0 = WholeHeap.address(61)
        check = try HeapCheck(heap.memory(), root: WholeHeap.root)
        #expect(check.findings.map(\.kind) == [.listLink])
    }

    /// Whatever the structures hold, the walk ends, and reads only what is there.
    @Test func damageOfAnyKindIsSurvived() throws {
        var random = SplitMix(state: 12)
        let whole = WholeHeap().memory()
        let places: [UInt64] = [
            WholeHeap.root, 0x2000, 0x2100, 0x2200, 0x3000, WholeHeap.pool, WholeHeap.thread,
            WholeHeap.slots + 58 * 64, WholeHeap.tags, 0x100_0000, 0x200_0000,
        ]
        for _ in 0..<100 {
            var memory = whole
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let piece = places.randomElement(using: &random) ?? WholeHeap.pool
                let start = memory.pieces.keys.filter { $0 <= piece }.max() ?? piece
                let room = min(memory.pieces[start]?.count ?? 0, 4096 + Int(piece - start))
                guard room > 8 + Int(piece - start) else { continue }
                let value =
                    [0, 1, .max, 1 << 47, UInt64.random(in: 0...0x300_0000, using: &random)]
                    .randomElement(using: &random) ?? 0
                let offset = Int.random(in: Int(piece - start)..<(room - 8), using: &random) & ~7
                withUnsafeBytes(of: value) { bytes in
                    for (index, byte) in bytes.enumerated() {
                        memory.pieces[start]?[offset + index] = byte
                    }
                }
            }
            _ = try? HeapCheck(memory, root: WholeHeap.root)
            let lookup = try? AddressLookup(
                memory, root: WholeHeap.root, mappings: [], threads: ProcessThreads())
            _ = try? lookup?.fact(about: WholeHeap.address(61))
        }
    }
}
