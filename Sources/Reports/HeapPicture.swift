// SPDX-License-Identifier: MIT
import HeapImage

/// The heap's address space as cells, one a slice, or several slices each where there are many.
package struct HeapPicture: Equatable, Sendable {
    package enum Content: Equatable, Hashable, Sendable {
        /// A span of slots of this size.
        case slots(UInt64)
        case large, huge
        /// In no span; with memory, or without.
        case free, empty
    }

    /// Adjoining cells that look the same.
    package struct Run: Equatable, Sendable {
        package var content: Content
        /// Tenths of it that are live slots: 0 to 10.
        package var fill: Int
        package var cells: Int

        package init(_ content: Content, fill: Int = 0, cells: Int) {
            self.content = content
            self.fill = fill
            self.cells = cells
        }
    }

    package struct Block: Equatable, Sendable {
        package var title: String
        package var start: UInt64
        package var size: UInt64
        package var populated: UInt64
        package var runs: [Run]

        package init(
            title: String, start: UInt64, size: UInt64, populated: UInt64, runs: [Run]
        ) {
            self.title = title
            self.start = start
            self.size = size
            self.populated = populated
            self.runs = runs
        }
    }

    package var process: ReportedProcess
    /// Of a cell.
    package var cellBytes: UInt64
    package var blocks: [Block]
    package var reserved: UInt64
    package var populated: UInt64
    package var used: UInt64

    package init(
        process: ReportedProcess, cellBytes: UInt64, blocks: [Block], reserved: UInt64,
        populated: UInt64, used: UInt64
    ) {
        self.process = process
        self.cellBytes = cellBytes
        self.blocks = blocks
        self.reserved = reserved
        self.populated = populated
        self.used = used
    }

    /// More cells than this are no picture.
    private static let cellLimit: UInt64 = 1 << 17
    /// Huge slots shown one by one, at most; the rest are one block.
    private static let hugeLimit = 64

    package init(_ process: ReportedProcess, _ reading: MemoryReading, slice: UInt64 = 1 << 14) {
        let walk = reading.walk
        self.init(
            process: process, cellBytes: slice, blocks: [], reserved: walk.reservedBytes,
            populated: 0, used: walk.usedBytes)
        while reserved / cellBytes > Self.cellLimit { cellBytes *= 2 }
        let arenas = walk.arenas.map(\.range).sorted { $0.lowerBound < $1.lowerBound }
        var arena = 0
        var parts: [Part] = []
        var huge: [Part] = []
        for (index, piece) in reading.space.pieces.enumerated() {
            guard let part = Part(index, piece, reading) else { continue }
            populated = populated.plus(part.populated)
            let start = piece.range.lowerBound
            while arena < arenas.count, arenas[arena].upperBound <= start {
                finish(arenas[arena], &parts)
                arena += 1
            }
            if arena < arenas.count, arenas[arena].contains(start) {
                parts.append(part)
            } else {
                huge.append(part)
            }
        }
        while arena < arenas.count {
            finish(arenas[arena], &parts)
            arena += 1
        }
        addHuge(huge.sorted { $0.range.lowerBound < $1.range.lowerBound })
    }

    /// A piece of the heap.
    private struct Part {
        var range: Range<UInt64>
        var content: Content
        var live: UInt64
        var populated: UInt64

        init?(_ index: Int, _ piece: AddressSpace.Piece, _ reading: MemoryReading) {
            range = piece.range
            populated = reading.populated(index)
            live = 0
            switch piece.use {
            case .span(let number):
                let span = reading.walk.spans[number]
                live = span.liveBytes
                content =
                    switch span.kind {
                    case .slots: .slots(span.slotSize)
                    case .large: .large
                    case .huge: .huge
                    }
            case .waiting: content = .large
            case .free: content = populated > 0 ? .free : .empty
            default: return nil
            }
        }
    }

    /// A block of all the parts of an arena.
    private mutating func finish(_ arena: Range<UInt64>, _ parts: inout [Part]) {
        var runs: [Run] = []
        var next = 0
        var cell = arena.lowerBound
        while cell < arena.upperBound {
            let end = cell.plus(cellBytes)
            while next < parts.count, parts[next].range.upperBound <= cell { next += 1 }
            // Of several in a cell the one with most of it.
            var best: (Part, UInt64)?
            var index = next
            while index < parts.count, parts[index].range.lowerBound < end {
                let part = parts[index].range.clamped(to: cell..<end)
                let bytes = part.upperBound - part.lowerBound
                if bytes > best?.1 ?? 0 { best = (parts[index], bytes) }
                index += 1
            }
            append(best?.0, to: &runs)
            cell = end
        }
        blocks.append(
            Block(
                title: "arena", start: arena.lowerBound,
                size: arena.upperBound - arena.lowerBound,
                populated: parts.reduce(0) { $0.plus($1.populated) }, runs: runs))
        parts = []
    }

    private func append(_ part: Part?, to runs: inout [Run]) {
        let content = part?.content ?? .empty
        let fill = part.map { Self.fill($0.live, $0.range.upperBound - $0.range.lowerBound) } ?? 0
        if let last = runs.last, last.content == content, last.fill == fill {
            runs[runs.count - 1].cells += 1
        } else {
            runs.append(Run(content, fill: fill, cells: 1))
        }
    }

    /// Tenths, at least one of what is not empty.
    private static func fill(_ live: UInt64, _ size: UInt64) -> Int {
        guard live > 0, size > 0 else { return 0 }
        return max(1, min(10, Int(live.times(10) / size)))
    }

    private mutating func addHuge(_ parts: [Part]) {
        for part in parts.prefix(Self.hugeLimit) {
            let size = part.range.upperBound - part.range.lowerBound
            let cells = Int(max(1, min((size + cellBytes - 1) / cellBytes, Self.cellLimit)))
            let filled = Int(part.populated.times(UInt64(cells)) / max(1, size))
            let runs = [
                Run(.huge, fill: 10, cells: filled), Run(.huge, fill: 0, cells: cells - filled),
            ]
            blocks.append(
                Block(
                    title: "huge", start: part.range.lowerBound, size: size,
                    populated: part.populated, runs: runs.filter { $0.cells > 0 }))
        }
        let rest = parts.dropFirst(Self.hugeLimit)
        guard let first = rest.first else { return }
        let size = rest.reduce(UInt64(0)) { $0.plus($1.range.upperBound - $1.range.lowerBound) }
        blocks.append(
            Block(
                title: "\(rest.count) more huge", start: first.range.lowerBound, size: size,
                populated: rest.reduce(0) { $0.plus($1.populated) },
                runs: [Run(.huge, fill: 10, cells: 1)]))
    }
}
