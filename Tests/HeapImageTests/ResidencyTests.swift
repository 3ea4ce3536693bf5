// SPDX-License-Identifier: MIT
import CRegion
import Testing

@testable import HeapImage

@Suite struct ResidencyTests {
    /// Every page that is populated is in one part, and in no other.
    @Test func thePartsSumToThePages() throws {
        let memory = WholeHeap().memory()
        let walk = try HeapWalk(memory, root: WholeHeap.root)
        var pages = RecordedPages()
        pages.add(0x5000_0000, pages: 3, .present)
        pages.add(0x5000_4000, pages: 1, [.present, .zero])
        pages.add(0x5000_9000, pages: 1, .present)
        pages.add(0x5100_3000, pages: 1, .present)
        pages.add(0x6000_0000, pages: 2, .present)
        pages.add(0x7000_0000, pages: 4, .swapped)
        // The span's first two pages, ten of the large slot's 25, and three that are free.
        var heapPages = RecordedPages()
        heapPages.add(WholeHeap.slots, pages: 2, .present)
        heapPages.add(WholeHeap.large, pages: 10, .present)
        heapPages.add(WholeHeap.arena + 40 * UInt64(MC_SLICE), pages: 3, .present)
        pages.runs = heapPages.runs + pages.runs
        pages.runNodes = heapPages.runNodes + pages.runNodes
        var surroundings = Residency.Surroundings(
            mappings: [
                Mapping(range: WholeHeap.arena..<(WholeHeap.arena + 1 << 20)),
                Mapping(
                    range: 0x5000_0000..<0x5000_8000, permissions: "r-xp", inode: 4,
                    name: "/lib/libz.so"),
                Mapping(
                    range: 0x5000_8000..<0x5000_9000, permissions: "rw-p", offset: 0x8000, inode: 4,
                    name: "/lib/libz.so"),
                Mapping(range: 0x5000_9000..<0x5000_a000),
                Mapping(
                    range: 0x5100_0000..<0x5100_2000, permissions: "r-xp", inode: 5,
                    name: "/lib/libmemctl.so"),
                Mapping(range: 0x5100_3000..<0x5100_4000),
                Mapping(range: 0x6000_0000..<0x6000_8000),
                Mapping(range: 0x7000_0000..<0x7000_8000, name: "[stack]"),
            ])
        surroundings.library = 0x5100_0000..<0x5100_4000
        let residency = try Residency(walk, surroundings, pages, memory, resident: 21 * 4096)
        #expect(residency.sum == 22 * 4096)
        // The page behind its data is its own, too; and so is one behind the region.
        #expect(residency.bytes[.modules] == 5 * 4096)
        #expect(residency.bytes[.mappings] == 2 * 4096)
        #expect(residency.bytes[.free] == 3 * 4096)
        #expect(residency.swapped == 4 * 4096)
        #expect(residency.bytes[.stacks] == nil)
        // 58 live slots of 64 bytes, one of them traced, in two pages; the large one is traced.
        #expect(residency.bytes[.untraced] == 57 * 64)
        #expect(residency.bytes[.fragmented] == 2 * 4096 - 58 * 64)
        #expect(residency.bytes[.slack] == 14)
        #expect(residency.bytes[.traced] == 50 + 10 * 4096)
        #expect(residency.untouched == 15 * 4096)
        #expect(
            residency.groups == [
                Residency.Group(part: .modules, name: "/lib/libz.so"): 4 * 4096,
                Residency.Group(part: .modules, name: "/lib/libmemctl.so"): 4096,
                Residency.Group(part: .mappings, name: "without a name"): 2 * 4096,
            ])
    }
}
