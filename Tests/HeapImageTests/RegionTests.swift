// SPDX-License-Identifier: MIT
import CRegion
import Testing

@testable import HeapImage

@Suite struct RegionTests {
    @Test func headerIsReadAsWritten() throws {
        let header = try ByteArray(bytes: SampleRegion().bytes).header()
        #expect(header.pid == 12)
        #expect(header.name == "app")
        #expect(header.executable == "/usr/bin/app")
        #expect(header.isArmed)
        #expect(header.birthsFromNanoseconds == 500_000_000)
        #expect(header.depth == 64)
        #expect(header.stackCount == 4)
        #expect(header.holdsTrace)
        #expect(header.cutStacks == 1)
    }

    @Test func modulesHaveTheirNames() throws {
        let region = ByteArray(bytes: SampleRegion().bytes)
        let modules = try region.modules(region.header())
        #expect(modules.map(\.path) == ["/usr/bin/app", "/usr/lib/libgrow.so"])
        #expect(modules[0].buildID == [1, 2, 3, 4])
        #expect(modules[1].start == 0x500000)
        #expect(modules[1].lastEpoch == .max)
    }

    @Test func rowsAreSummedOverShardsAndMerged() throws {
        let region = ByteArray(bytes: SampleRegion().bytes)
        let table = try StackTable(region, region.header())
        #expect(table.rows.map(\.stack) == [2, 3, 5])
        // Stacks 2 and 4 read the same: the tree has their call site twice.
        #expect(table.rowOfStack == [-1, -1, 0, 1, 0, 2])
        #expect(table.rows[0].counts.allocs == 12)
        #expect(table.rows[0].counts.live == 7)
        #expect(table.rows[0].counts.liveBytes == 700)
        #expect(table.rows[0].counts.liveUsable == 784)
        #expect(table.rows[2].isCut)
        #expect(table.rows[2].counts.live == 0)
        #expect(table.total.live == 12)
        // Of all stacks and shards: 12 + 5 + 7 allocations, 5 + 7 frees.
        #expect(table.activity == 36)
        #expect(try table.activityNow(region, region.header()) == 36)
    }

    /// A counter stands for its turns, those that are not noted yet, and what is left.
    @Test func narrowCountersHaveTurns() throws {
        var sample = SampleRegion()
        let turn: UInt64 = 1 << UInt64(MC_TURN_SHIFT)
        let counters = mc_region_counters(
            1_000_000, 5, bytes: 6 * turn + 100, turn + 1, usable: 9 * turn - 1, 3 * turn)
        sample.count(3, shard: 2, counters)
        // Of 6, 9 - 1, 1 and 3 turns, as many as three are not noted.
        sample.turns(
            3, shard: 2,
            mc_region_narrow(
                allocs: 0, frees: 0, bytes_in: 4, bytes_out: 0, usable_in: 8, usable_out: 0,
                lifetimes: 0, temporary: 0))
        sample.header.turns = 1
        sample.putHeader()
        let region = ByteArray(bytes: sample.bytes)
        let without = ByteArray(bytes: SampleRegion().bytes)
        let counts = try StackTable(region, region.header()).rows[1].counts
        let before = try StackTable(without, without.header()).rows[1].counts
        // What another shard counted of that stack is there before.
        #expect(counts.allocs == before.allocs + 1_000_000)
        #expect(counts.bytesIn == before.bytesIn + 6 * turn + 100)
        #expect(counts.bytesOut == before.bytesOut + turn + 1)
        #expect(counts.usableIn == before.usableIn + 9 * turn - 1)
        #expect(counts.usableOut == before.usableOut + 3 * turn)
    }

    /// Of what threads count in common, a stack's place tells which row is its.
    @Test func commonRowsBelongToStacks() throws {
        var sample = SampleRegion()
        let turn: UInt64 = 1 << UInt64(MC_TURN_SHIFT)
        let counters = mc_region_counters(3, 1, bytes: turn + 300, 100, usable: turn + 400, 112)
        sample.count(3, row: 2, mc_region_narrow(counters))
        sample.count(2, row: 1, mc_region_narrow(counters))
        sample.header.turns = 1
        sample.putHeader()
        let region = ByteArray(bytes: sample.bytes)
        let rows = try StackTable(region, region.header()).rows
        #expect(rows.map(\.counts.allocs) == [15, 8, 7])
        #expect(rows.map(\.counts.frees) == [6, 1, 7])
        #expect(rows[1].counts.bytesIn == turn + 380)
        #expect(rows[1].counts.usableOut == 112)
    }

    @Test func aRowOfNobodyIsNotCounted() throws {
        var sample = SampleRegion()
        let counters = mc_region_counters(3, 1, bytes: 300, 100, usable: 400, 112)
        sample.count(3, row: 2, mc_region_narrow(counters))
        sample.put(UInt32(0), at: SampleRegion.placesOffset + 3 * 4)
        let region = ByteArray(bytes: sample.bytes)
        #expect(try StackTable(region, region.header()).rows[1].counts.allocs == 5)
    }

    @Test(arguments: [UInt32(SampleRegion.capacity), 1 << 20, .max])
    func aPlaceBeyondTheRowsIsDamage(row: UInt32) throws {
        var sample = SampleRegion()
        sample.put(row, at: SampleRegion.placesOffset + 3 * 4)
        let region = ByteArray(bytes: sample.bytes)
        #expect(throws: HeapImageError.self) { try StackTable(region, region.header()) }
    }

    /// A region says itself how many rows it has room for; what matters is what the file holds.
    @Test func rowsThatAFileCannotHoldAreDamage() throws {
        var sample = SampleRegion()
        sample.put(UInt32(200_000_000), at: SampleRegion.placesOffset + 3 * 4)
        withUnsafeMutableBytes(of: &sample.header.areas) { bytes in
            let table = bytes.bindMemory(to: mc_region_area.self)
            table[Int(MC_AREA_COMMON)].capacity = .max / 64
        }
        sample.putHeader()
        let region = ByteArray(bytes: sample.bytes)
        #expect(throws: HeapImageError.self) { try StackTable(region, region.header()) }
    }

    @Test func framesOfTheLibraryAreCut() throws {
        let region = ByteArray(bytes: SampleRegion().bytes)
        let table = try StackTable(region, region.header())
        let shown = table.rows.map { row in
            table.frames.path(from: row.frame).map { table.frames[$0].pc }
        }
        #expect(shown == [[0x500300, 0x400200, 0x400100], [0x400200, 0x400100], [0x400100]])
    }

    @Test func aResetHidesOlderStacks() throws {
        var sample = SampleRegion()
        sample.header.floor = 4
        sample.putHeader()
        let region = ByteArray(bytes: sample.bytes)
        let table = try StackTable(region, region.header())
        #expect(table.rows.map(\.stack) == [4, 5])
        #expect(table.total.live == 1)
        #expect(table.rowOfStack[2] == -1)
    }

    @Test func aFullTableHasOneRowForTheRest() throws {
        var sample = SampleRegion()
        sample.count(1, shard: 3, mc_region_counters(9, 3, bytes: 90, 30, usable: 144, 48))
        let region = ByteArray(bytes: sample.bytes)
        let table = try StackTable(region, region.header())
        #expect(table.rows[0].isOverflow)
        #expect(table.rows[0].counts.live == 6)
        #expect(table.rows[0].frame == 0)
    }

    @Test func shardsBeyondTheEndHoldNothing() throws {
        var sample = SampleRegion()
        sample.bytes.removeLast(6 * SampleRegion.capacity * 64)
        let region = ByteArray(bytes: sample.bytes)
        #expect(try StackTable(region, region.header()).total.live == 12)
    }

    @Test func shardsTakenSinceTheHeaderWasReadCount() throws {
        var sample = SampleRegion()
        sample.header.shards = 1
        sample.putHeader()
        let before = ByteArray(bytes: sample.bytes)
        let header = try before.header()
        #expect(try StackTable(before, header).total.live == 11)
        sample.header.shards = 2
        sample.putHeader()
        #expect(try StackTable(ByteArray(bytes: sample.bytes), header).total.live == 12)
        sample.header.shards = .max
        sample.putHeader()
        #expect(throws: HeapImageError.self) {
            try StackTable(ByteArray(bytes: sample.bytes), header)
        }
    }

    @Test func aCycleOfFramesEnds() throws {
        var sample = SampleRegion()
        sample.frame(1, pc: 0x400100, parent: 3)
        let region = ByteArray(bytes: sample.bytes)
        let table = try StackTable(region, region.header())
        #expect(table.frames.path(from: 6).count == FrameTree.depthLimit)
    }

    @Test func framesFollowEachOtherBehindALink() throws {
        var sample = SampleRegion()
        let words = [
            mc_frame_link(0, 7), mc_frame_word(1, 0x400100), mc_frame_link(2, 0),
            mc_frame_word(1, 0x400200), mc_frame_word(1, 0x500300), 0, mc_frame_word(1, 0x400500),
        ]
        for (index, word) in words.enumerated() { sample.record(1 + index, word) }
        let region = ByteArray(bytes: sample.bytes)
        let frames = try StackTable(region, region.header()).frames
        #expect(frames.path(from: 5) == [5, 4, 2])
        #expect(frames[5] == FrameTree.Frame(pc: 0x500300, epoch: 7))
        #expect(frames[2].epoch == 7)
        #expect(frames.path(from: 7) == [7])  // behind one that was not finished
        #expect(frames.path(from: 1) == [1] && frames[1].pc == 0)  // a link is no frame
    }

    @Test func framesHaveAWindowOrAPrefix() throws {
        var sample = SampleRegion()
        let high: UInt64 = 0x7fff_1234_5678
        let highest: UInt64 = 0xffff_ffff_ff60_0001
        let wide = UInt32(MC_FRAME_WIDE)
        let words = [
            mc_frame_link(0, 0), mc_frame_word(3, 0x7f12_3456_789a), mc_frame_prefix(high),
            mc_frame_word(wide, high), mc_frame_prefix(highest), mc_frame_word(wide, highest),
            mc_frame_word(1, 0x400100), mc_frame_word(14, 5),
        ]
        for (index, word) in words.enumerated() { sample.record(1 + index, word) }
        sample.header.frame_windows.2 = (0x7f12_3456_789a >> 27) + 1
        sample.putHeader()
        let region = ByteArray(bytes: sample.bytes)
        let frames = try StackTable(region, region.header()).frames
        let path = frames.path(from: 7)
        #expect(path == [7, 6, 4, 2])
        #expect(path.map { frames[$0].pc } == [0x400100, highest, high, 0x7f12_3456_789a])
        // A window that nobody made: some address, and the way out as ever.
        #expect(frames.path(from: 8) == [8, 7, 6, 4, 2])
    }

    @Test func aParentThatIsNotThereEndsTheWalk() throws {
        var sample = SampleRegion()
        sample.frame(2, pc: 0x400200, parent: 900)
        let region = ByteArray(bytes: sample.bytes)
        let table = try StackTable(region, region.header())
        #expect(table.frames.path(from: table.rows[0].frame).count == 2)
    }

    @Test func moreFreesThanAllocsIsNotNegative() throws {
        var sample = SampleRegion()
        sample.count(3, shard: 0, mc_region_counters(1, .max, bytes: 1, 2, usable: 0, .max))
        let region = ByteArray(bytes: sample.bytes)
        let table = try StackTable(region, region.header())
        #expect(table.rows[1].counts.live == 0)
        #expect(table.rows[1].counts.liveUsable == 0)
    }

    @Test func otherFilesAreRefused() {
        #expect(throws: HeapImageError.notRegion(path: "array", why: "it is too short")) {
            try ByteArray(bytes: []).header()
        }
        #expect(throws: HeapImageError.notRegion(path: "array", why: "it does not begin like one"))
        {
            try ByteArray(bytes: [UInt8](repeating: 7, count: 8192)).header()
        }
    }

    @Test func otherVersionsAreRefused() {
        var sample = SampleRegion()
        sample.header.version = 77
        sample.putHeader()
        #expect(throws: HeapImageError.otherVersion(found: 77, expected: RegionHeader.version)) {
            try ByteArray(bytes: sample.bytes).header()
        }
    }

    /// A few pages may not pretend to be gigabytes, which the reader would have to make room for.
    @Test func aSparseFileCantClaimMuch() throws {
        var sample = SampleRegion()
        withUnsafeMutableBytes(of: &sample.header.areas) { bytes in
            let areas = bytes.bindMemory(to: mc_region_area.self)
            areas[Int(MC_AREA_STACKS)].count = 1 << 23
            areas[Int(MC_AREA_STACKS)].capacity = 1 << 23
        }
        sample.putHeader()
        struct Sparse: RegionBytes {
            var path: String { "sparse" }
            var start: ByteArray
            func extent() -> (size: UInt64, allocated: UInt64) { (1 << 40, 1 << 16) }
            func read(
                at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
            ) throws(HeapImageError) -> Int {
                buffer.initializeMemory(as: UInt8.self, repeating: 0)
                let count = try start.read(at: offset, into: buffer)
                return max(count, buffer.count)
            }
        }
        let region = Sparse(start: ByteArray(bytes: sample.bytes))
        let header = try region.header()
        #expect(throws: HeapImageError.self) { try StackTable(region, header) }
    }

    /// Whatever the bytes are, reading ends with rows or an error.
    @Test func anyDamageIsSurvived() {
        let valid = SampleRegion().bytes
        var random = SplitMix(state: 20_240_601)
        var refused = 0
        var read = 0
        for _ in 0..<100_000 {
            do {
                read += try readWhole(ByteArray(bytes: mutated(valid, &random))) >= 0 ? 1 : 0
            } catch {
                refused += 1
            }
        }
        #expect(read + refused == 100_000)
        // Both ways are really taken.
        #expect(read > 1000)
        #expect(refused > 1000)
    }
}
