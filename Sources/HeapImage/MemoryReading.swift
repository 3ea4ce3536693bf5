// SPDX-License-Identifier: MIT

/// A process' heap and the pages behind it, read at one time: what every report about memory is
/// made from.
///
/// Of a process that runs, heap, mappings and pages are read one after the other; of a stopped one
/// the numbers belong together.
package struct MemoryReading: Sendable {
    package enum Scope: Sendable {
        /// The heap alone.
        case heap
        /// All that the process has mapped.
        case process
    }

    package let walk: HeapWalk
    package let space: AddressSpace
    /// By piece of `space`.
    package let sums: PageSums
    /// By mapping; empty for the heap alone.
    package let mappingPageSizes: [UInt64]
    /// What the kernel counts; nil when it does not tell.
    package let size: ResidentSize?
    /// Bytes of live slots that have memory, of pieces where live and free slots share a span and
    /// not all of it has memory.
    private let liveBytes: [Int: UInt64]

    package init(
        _ walk: HeapWalk, mappings: [Mapping], in pages: some PageSource,
        _ memory: some MemorySource, size: ResidentSize? = nil, withNodes: Bool = true,
        isRegion: (Mapping) -> Bool = { _ in false }
    ) {
        self.walk = walk
        let known = mappings.filter { !$0.isKernels }
        space = AddressSpace(walk, mappings: known, isRegion: isRegion)
        mappingPageSizes = known.map { pages.pageSize(of: $0) }
        sums = PageSums(
            of: space.pieces.enumerated().map { OwnedRange($1.range, owner: $0) },
            ownerCount: space.pieces.count, in: pages, withNodes: withNodes)
        self.size = size
        var liveBytes: [Int: UInt64] = [:]
        for (index, piece) in space.pieces.enumerated() {
            guard case .span(let number) = piece.use else { continue }
            let (span, tally) = (walk.spans[number], sums.tallies[index])
            guard span.slotSize > pages.pageSize, span.live > 0, span.live < span.slotCount,
                tally.populated > 0, tally.populated < tally.total,
                let slots = SlotMap(span, memory, pages)
            else { continue }
            liveBytes[index] = slots.liveBytes(of: span, in: pages)
        }
        self.liveBytes = liveBytes
    }

    /// Of a process that lives.
    package init(
        _ entry: RegionEntry, _ scope: Scope, withNodes: Bool = true
    ) throws(HeapImageError) {
        guard let pid = entry.livePid else { throw .gone(pid: entry.pid) }
        let walk = try Snapshot.heap(of: entry).get()
        let mappings = scope == .process ? Mapping.all(of: pid) : []
        guard let mappings else { throw LiveProcess.denial(pid: pid) }
        self.init(
            walk, mappings: mappings, in: LivePages(pid: pid), LiveProcess(pid: pid),
            size: ResidentSize(of: pid), withNodes: withNodes,
            isRegion: { entry.file.isBehind($0) })
    }

    /// The span a piece is, live or waiting; nil for what is none.
    package func span(of piece: AddressSpace.Piece) -> HeapWalk.Span? {
        switch piece.use {
        case .span(let number): walk.spans[number]
        case .waiting(let number): walk.waiting[number]
        default: nil
        }
    }

    /// Bytes of a piece that have memory.
    package func populated(_ piece: Int) -> UInt64 {
        sums.tallies[piece].populated.times(sums.pageSize)
    }

    /// Of those, the bytes of live slots; 0 of what is no span.
    ///
    /// A slot was written to when it was handed out, so those of up to a page have memory. Of larger
    /// ones, where it is not all or nothing, their marks tell.
    package func populatedLive(_ piece: Int) -> UInt64 {
        guard case .span(let number) = space.pieces[piece].use else { return 0 }
        return min(liveBytes[piece] ?? walk.spans[number].liveBytes, populated(piece))
    }

    /// Pages of a hugetlbfs are no part of the resident size.
    package func isHugetlb(mapping: Int) -> Bool {
        mapping < mappingPageSizes.count && mappingPageSizes[mapping] > sums.pageSize
    }
}

extension SlotMap {
    /// Bytes of live slots that have memory behind them.
    fileprivate func liveBytes(of span: HeapWalk.Span, in pages: some PageSource) -> UInt64 {
        var bytes: UInt64 = 0
        _ = pages.visit(span.range) { run in
            guard run.flags.contains(.present), !run.flags.contains(.zero) else { return }
            let range = run.range.clamped(to: span.range)
            guard !range.isEmpty else { return }
            var slot = Int((range.lowerBound - span.base) / span.slotSize)
            while slot < isFree.count {
                let start = span.base + UInt64(slot) * span.slotSize
                guard start < range.upperBound else { return }
                let part = (start..<start + span.slotSize).clamped(to: range)
                if !isFree[slot] { bytes += part.upperBound - part.lowerBound }
                slot += 1
            }
        }
        return bytes
    }
}

extension RegionFile {
    /// Some file systems show another device in maps than in stat(2).
    fileprivate func isBehind(_ mapping: Mapping) -> Bool {
        mapping.inode == inode
            && (mapping.device == device || path.hasSuffix(mapping.name.withoutDeleted))
    }
}
