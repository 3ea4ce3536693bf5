// SPDX-License-Identifier: MIT
import CRegion
import Glibc
import Testing

@testable import HeapImage

/// Pages of this very process, by each way there is to know them.
@Suite struct LivePagesTests {
    private static let page: UInt64 = 4096

    /// 1000 pages: every second of the first 600 written, the last 50 only read.
    private final class Area {
        let start: UnsafeMutableRawPointer
        let size = 1000 * 4096

        init() throws {
            start = try #require(
                mmap(nil, 1000 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
            madvise(start, size, Int32(MADV_NOHUGEPAGE))
            for number in 0..<300 {
                start.storeBytes(of: 1, toByteOffset: number * 8192, as: UInt8.self)
            }
            for number in 950..<1000 {
                #expect(start.load(fromByteOffset: number * 4096, as: UInt8.self) == 0)
            }
        }

        deinit { munmap(start, size) }

        var range: Range<UInt64> {
            let address = UInt64(UInt(bitPattern: start))
            return address..<address + UInt64(size)
        }
    }

    @Test(arguments: [LivePages.Way.scan, .pagemap, .nodes])
    func pagesAreCounted(way: LivePages.Way) throws {
        let area = try Area()
        let source = LivePages(pid: getpid(), first: way)
        let sums = PageSums(
            of: [OwnedRange(area.range, owner: 0)], ownerCount: 1, in: source, withNodes: true)
        let tally = sums.tallies[0]
        #expect(tally.total == 1000)
        // Containers may be refused move_pages(2), and kernels be built without it.
        if sums.nodesUnavailable != nil, way == .nodes { return }
        #expect(tally.populated == 300)
        #expect(tally.notPopulated == 700)
        #expect(tally.unknown == 0)
        // Asked page by page, the kernel says of the page of zeros only that it is no page.
        #expect(tally.zero == (way == .nodes ? 0 : 50))
        #expect(tally.nodes.reduce(0, +) == (sums.nodesUnavailable == nil ? 300 : 0))
        madvise(area.start, area.size, Int32(MADV_DONTNEED))
        let after = PageSums(
            of: [OwnedRange(area.range, owner: 0)], ownerCount: 1, in: source, withNodes: false)
        #expect(after.tallies[0].populated == 0)
        #expect(after.tallies[0].total == 1000)
    }

    /// Neighbours of one owner and others, cut anywhere, sum to the whole.
    @Test(arguments: [LivePages.Way.scan, .pagemap])
    func ownersShareTheRuns(way: LivePages.Way) throws {
        let area = try Area()
        var random = SplitMix(state: 3)
        let source = LivePages(pid: getpid(), first: way)
        for _ in 0..<20 {
            var ranges: [OwnedRange] = []
            var position = area.range.lowerBound
            while position < area.range.upperBound {
                let pages = UInt64.random(in: 1...40, using: &random)
                let end = min(area.range.upperBound, position + pages * Self.page)
                ranges.append(
                    OwnedRange(position..<end, owner: Int.random(in: 0..<5, using: &random)))
                position = end
            }
            let sums = PageSums(of: ranges, ownerCount: 5, in: source, withNodes: false)
            #expect(sums.total.total == 1000)
            // An ordinary user is not told by pagemap alone which are the page of zeros.
            #expect(sums.total.populated == (source.tellsKinds ? 300 : 350))
            #expect(sums.total.zero == (source.tellsKinds ? 50 : 0))
        }
    }

    @Test func hugePagesAreToldApart() throws {
        let size = 8 << 20
        let start = try #require(
            mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
        defer { munmap(start, size) }
        madvise(start, size, Int32(MADV_HUGEPAGE))
        memset(start, 1, size)
        let address = UInt64(UInt(bitPattern: start))
        let sums = PageSums(
            of: [OwnedRange(address..<address + UInt64(size), owner: 0)], ownerCount: 1,
            in: LivePages(pid: getpid()), withNodes: true)
        #expect(sums.tallies[0].populated == 2048)
        #expect(
            sums.tallies[0].nodes.reduce(0, +) == (sums.nodesUnavailable == nil ? 2048 : 0))
        // The kernel may have none to give; but never parts of one.
        #expect(sums.tallies[0].huge % 512 == 0)
    }

    @Test func pagesOfNobodyAreUnknown() {
        let source = LivePages(pid: 0x7fff_fff0)
        let sums = PageSums(
            of: [OwnedRange(4096..<12288, owner: 0)], ownerCount: 1, in: source, withNodes: true)
        #expect(sums.tallies[0].total == 2)
        #expect(sums.tallies[0].unknown == 2)
        #expect(sums.tallies[0].notPopulated == 0)
        #expect(sums.unknownReason?.contains("has ended") == true)
    }

    @Test func emptySpaceIsPassedQuickly() {
        // Half of all addresses there are.
        let sums = PageSums(
            of: [OwnedRange(4096..<1 << 46, owner: 0)], ownerCount: 1, in: LivePages(pid: getpid()),
            withNodes: false)
        #expect(sums.tallies[0].total == (1 << 46 - 4096) / 4096)
    }
}

/// Machines that this one is not.
@Suite struct RecordedPagesTests {
    private static func sums(
        _ pages: RecordedPages, owners: [(UInt64, UInt64, Int)]
    ) -> PageSums {
        PageSums(
            of: owners.map { OwnedRange($0.0..<$0.1, owner: $0.2) },
            ownerCount: (owners.map(\.2).max() ?? 0) + 1, in: pages, withNodes: true)
    }

    @Test func eightNodes() {
        var pages = RecordedPages()
        for node in 0..<8 {
            pages.add(
                0x10000 + UInt64(node) * 0x10000, pages: UInt64(node) + 1, .present,
                node: Int32(node))
        }
        let sums = Self.sums(pages, owners: [(0x10000, 0x50000, 0), (0x50000, 0x90000, 1)])
        #expect(sums.tallies[0].nodes == [1, 2, 3, 4])
        #expect(sums.tallies[1].nodes == [0, 0, 0, 0, 5, 6, 7, 8])
        #expect(sums.total.nodes == [1, 2, 3, 4, 5, 6, 7, 8])
        #expect(sums.total.populated == 36)
        #expect(sums.total.total == 128)
    }

    @Test func twoNodesAndSwapAndZeros() {
        var pages = RecordedPages()
        pages.add(0x10000, pages: 2, .present, node: 0)
        pages.add(0x12000, pages: 3, .swapped)
        pages.add(0x15000, pages: 1, [.present, .zero])
        pages.add(0x16000, pages: 4, [.present, .file], node: 1)
        let tally = Self.sums(pages, owners: [(0x10000, 0x20000, 0)]).tallies[0]
        #expect((tally.populated, tally.swapped, tally.zero) == (6, 3, 1))
        #expect(tally.notPopulated == 10)
        #expect(tally.nodes == [2, 4])
        #expect(tally.populated + tally.notPopulated + tally.unknown == tally.total)
    }

    /// Of a huge page one is asked for, and stands for all.
    @Test func hugePagesAreOnOneNode() {
        var pages = RecordedPages()
        pages.add(0x200000, pages: 1024, [.present, .huge], node: 1)
        let tally = Self.sums(pages, owners: [(0x200000, 0x300000, 0), (0x300000, 0x600000, 0)])
            .tallies[0]
        #expect(tally.huge == 1024)
        #expect(tally.nodes == [0, 1024])
    }

    @Test(arguments: [(EPERM, "EPERM"), (EACCES, "EACCES"), (ENOSYS, "ENOSYS")])
    func aRefusalOfNodesLeavesThePages(code: Int32, text: String) {
        var pages = RecordedPages()
        pages.add(0x10000, pages: 5, .present)
        pages.refusal = code
        let sums = Self.sums(pages, owners: [(0x10000, 0x20000, 0)])
        #expect(sums.nodesUnavailable == text)
        #expect(sums.tallies[0].populated == 5)
        #expect(sums.tallies[0].nodes.isEmpty)
    }

    /// A kernel that does not tell zero pages apart is found out by the other call.
    @Test func zerosAreFoundByTheirNode() {
        var pages = RecordedPages()
        pages.tellsKinds = false
        pages.add(0x10000, pages: 5, .present)
        pages.add(0x15000, pages: 3, .present, node: -EFAULT)
        let tally = Self.sums(pages, owners: [(0x10000, 0x20000, 0)]).tallies[0]
        #expect((tally.populated, tally.zero) == (5, 3))
    }

    @Test func unknownPagesAreCounted() {
        var pages = RecordedPages()
        pages.add(0x10000, pages: 5, .present)
        pages.add(0x15000, pages: 6, .unknown)
        pages.unknownReason = "because"
        let sums = Self.sums(pages, owners: [(0x10000, 0x20000, 0)])
        #expect(sums.tallies[0].unknown == 6)
        #expect(sums.tallies[0].notPopulated == 5)
        #expect(sums.unknownReason == "because")
    }

    /// Pages of 64 KiB, as other kernels have them.
    @Test func pagesMayBeLarger() {
        var pages = RecordedPages(pageSize: 65536)
        pages.add(0x10000, pages: 3, .present)
        let sums = Self.sums(pages, owners: [(0x10000, 0x100000, 0)])
        #expect((sums.tallies[0].populated, sums.tallies[0].total) == (3, 15))
    }
}

@Suite struct MappingTests {
    private let text = """
        55d0a000-55d0b000 r-xp 00001000 fd:01 1234    /usr/bin/a b
        7f0000000000-7f0000100000 rw-p 00000000 00:00 0
        7f0000080000-7f0000200000 rw-p 00000000 00:00 0 
        7f0000300000-7f0000301000 rw-s 00000000 00:19 77 /dev/shm/memctl-0/12 (deleted)
        nonsense
        7ffc0000-7ffb0000 rw-p 00000000 00:00 0 [heap]
        7fff00000000-7fff00021000 rw-p 00000000 00:00 0                          [stack]
        """

    /// What is out of order is not the kernel's.
    @Test func linesAreUnderstood() {
        let mappings = Mapping.parse(Array(text.utf8))
        #expect(
            mappings.map(\.name) == [
                "/usr/bin/a b", "", "/dev/shm/memctl-0/12 (deleted)", "[stack]",
            ])
        #expect(mappings[0].range == 0x55d0_a000..<0x55d0_b000)
        #expect(mappings[0].device == 0xfd01)
        #expect(mappings[0].inode == 1234)
        #expect(mappings[0].offset == 4096)
        #expect(mappings[1].inode == 0)
        #expect(mappings[2].isShared)
        #expect(mappings[3].size == 0x21000)
    }

    @Test func thisProcessHasAStack() throws {
        let mappings = try #require(Mapping.all(of: getpid()))
        #expect(mappings.contains { $0.name == "[stack]" })
        #expect(Mapping.all(of: 0x7fff_fff0) == nil)
    }

    @Test func theResidentSizeIsRead() throws {
        let size = try #require(ResidentSize(of: getpid()))
        #expect(size.resident > 0)
        #expect(size.peak >= size.resident)
        #expect(size.resident == size.anonymous + size.file + size.shared)
        #expect(ResidentSize(of: 0x7fff_fff0) == nil)
    }
}

@Suite struct AddressSpaceTests {
    private let walk: HeapWalk
    init() throws {
        var sample = SampleHeap()
        walk = try HeapWalk(sample.build(), root: 0x1000)
    }

    /// Everything there is, once.
    private func check(_ space: AddressSpace) {
        var end: UInt64 = 0
        for piece in space.pieces {
            #expect(piece.range.lowerBound >= end)
            #expect(!piece.range.isEmpty)
            end = piece.range.upperBound
        }
    }

    @Test func theHeapIsCutOutOfMappings() {
        let mappings = [
            Mapping(range: 0x1000..<0x2000, inode: 5, name: "/bin/x"),
            // The arena, and something that the kernel joined to it.
            Mapping(range: 0xf000..<0x120000),
            Mapping(range: 0x700_0000..<0x800_0000, name: "[stack]"),
            Mapping(range: 0x800_0000..<0xd00_0000),
        ]
        let space = AddressSpace(walk, mappings: mappings)
        check(space)
        #expect(
            space.pieces == [
                .init(0x1000..<0x2000, .other(mapping: 0)),
                .init(0xf000..<0x10000, .other(mapping: 1)),
                .init(0x10000..<0x14000, .span(0)),
                .init(0x14000..<0x20000, .free(arena: 0)),
                .init(0x20000..<0x40000, .span(1)),
                .init(0x40000..<0x110000, .free(arena: 0)),
                .init(0x110000..<0x120000, .other(mapping: 1)),
                .init(0x700_0000..<0x800_0000, .other(mapping: 2)),
                .init(0x800_0000..<0xc00_0000, .span(2)),
                .init(0xc00_0000..<0xd00_0000, .other(mapping: 3)),
            ])
        #expect(AddressSpace.heapPieces(walk).count == 5)
    }

    @Test func theHeapIsThereWithoutMappings() {
        let space = AddressSpace(walk, mappings: [])
        #expect(space.pieces == AddressSpace.heapPieces(walk))
    }

    @Test func mappingsMayEndInsideAnArena() {
        let mappings = [
            Mapping(range: 0x10000..<0x30000), Mapping(range: 0x30000..<0x110000),
            Mapping(range: 0x110000..<0x111000, name: "x"),
        ]
        let space = AddressSpace(walk, mappings: mappings) { $0.name == "x" }
        check(space)
        #expect(space.pieces.dropLast().last == .init(0x110000..<0x111000, .region))
    }

    /// Structures that contradict each other: bytes still belong to one.
    @Test func overlapsAreCut() throws {
        var sample = SampleHeap()
        sample.spans[1].base = 0x12000
        let space = AddressSpace(
            try HeapWalk(sample.build(), root: 0x1000),
            mappings: [Mapping(range: 0x8000..<0x200000)])
        check(space)
        #expect(space.pieces.contains(.init(0x14000..<0x32000, .span(1))))
    }

    @Test func metadataIsListed() throws {
        var sample = SampleHeap()
        sample.memory.put(
            [UInt64](repeating: 0, count: 2) + [0x500000, 0x10000, 0x600000, 0, 0x700000, 0x2000]
                + [UInt64](repeating: 0, count: 56), at: 0x6000)
        sample.root.meta_lists = 0x6000
        let walk = try HeapWalk(sample.build(), root: 0x1000)
        #expect(walk.metadata == [0x500000..<0x510000, 0x700000..<0x702000])
        // A list that leads to itself ends.
        sample.memory.put(
            [UInt64(0x6000), 0] + [UInt64](repeating: 0, count: 62), at: 0x6000)
        #expect(try HeapWalk(sample.build(), root: 0x1000).metadata.isEmpty)
    }
}
