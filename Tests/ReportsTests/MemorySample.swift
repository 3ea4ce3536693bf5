// SPDX-License-Identifier: MIT
import Glibc
import HeapImage

@testable import Reports

/// A heap of two threads that is nowhere, and pages as some machine would have them.
///
///     0x100000  arena of 64 slices: span of 64 B (thread 1), of 8 KiB (thread 2), free, a large slot,
///               a large one that waits, free
///     0x800000  huge slot of 1 MiB      0xa00000  metadata      0xc00000  a file and a stack
///     0xd0e000  the tracing's
enum MemorySample {
    static let threads = [
        HeapThread(address: 0x7002, number: 2, tid: 1002),
        HeapThread(address: 0x7001, number: 1, tid: 1001),
    ]

    static var requests: SlotRequests {
        var requests = SlotRequests()
        requests[slotSize: 48] = .init(succeeded: 9)
        requests[slotSize: 64] = .init(succeeded: 1_000_000)
        requests[slotSize: 8192] = .init(succeeded: 5, failed: 2)
        requests.large = .init(succeeded: 3)
        requests.huge = .init(succeeded: 1, failed: 4)
        return requests
    }

    static var walk: HeapWalk {
        var remote = HeapWalk.Span(
            kind: .slots, base: 0x104000, size: 0x10000, slotSize: 8192, slotCount: 8, live: 3,
            owner: 0x7002)
        remote.remote = 2
        return HeapWalk(
            spans: [
                HeapWalk.Span(
                    kind: .slots, base: 0x100000, size: 0x4000, slotSize: 64, slotCount: 256,
                    live: 100, owner: 0x7001),
                remote,
                HeapWalk.Span(kind: .large, base: 0x120000, size: 0x8000, slotSize: 0x6000),
                HeapWalk.Span(kind: .huge, base: 0x800000, size: 1 << 20, slotSize: 1 << 20),
            ],
            waiting: [
                HeapWalk.Span(
                    kind: .large, base: 0x128000, size: 0x8000, slotSize: 0x8000, live: 0)
            ],
            arenas: [
                HeapWalk.Arena(
                    base: 0x100000, size: 1 << 20, usedBytes: 0x24000, purgeableBytes: 0x4000)
            ], threads: threads, metadata: [0xa00000..<0xa10000],
            tracing: [0xd0e000..<0xd0f000], requests: requests)
    }

    static let mappings = [
        Mapping(range: 0x100000..<0x200000),
        Mapping(range: 0x800000..<0xa10000),
        Mapping(range: 0xc00000..<0xc02000, permissions: "r-xp", inode: 5, name: "/usr/bin/app"),
        Mapping(range: 0xd00000..<0xd10000, name: "[stack]"),
    ]

    /// On two nodes, or eight.
    static func pages(nodes: Int32 = 2) -> RecordedPages {
        var pages = RecordedPages()
        let last = nodes - 1
        pages.add(0x100000, pages: 4, .present, node: 0)
        pages.add(0x104000, pages: 12, .present, node: last)
        pages.add(0x110000, pages: 1, [.present, .zero])
        pages.add(0x114000, pages: 2, .present, node: 0)
        pages.add(0x120000, pages: 6, .present, node: last)
        pages.add(0x128000, pages: 8, .swapped)
        pages.add(0x800000, pages: 256, [.present, .huge], node: 1)
        pages.add(0xa00000, pages: 3, .present, node: 0)
        pages.add(0xc00000, pages: 2, [.present, .file], node: 0)
        pages.add(0xd00000, pages: 5, .present, node: 0)
        return pages
    }

    static func size(resident pages: UInt64) -> ResidentSize {
        var size = ResidentSize()
        (size.resident, size.peak) = (pages * 4096, 300 * 4096)
        return size
    }

    static func reading(_ pages: RecordedPages = pages()) -> MemoryReading {
        MemoryReading(
            walk, mappings: mappings, in: pages, NoMemory(), size: size(resident: 290))
    }

    /// Nothing can be read: sums have to do without the slots.
    struct NoMemory: MemorySource {
        func read(
            _ address: UInt64, into buffer: UnsafeMutableRawBufferPointer
        ) throws(HeapImageError) {
            throw .unreadable(address: address)
        }
    }
}
