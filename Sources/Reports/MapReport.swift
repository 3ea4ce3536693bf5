// SPDX-License-Identifier: MIT
import HeapImage

/// The address space of the heap, or of the whole process, by address.
package struct MapReport: Equatable, Sendable {
    package enum Kind: String, Sendable {
        case arena, huge, metadata, region
        // Not the heap's.
        case file, shared, stack, anonymous, hugetlb

        /// The heap's, or the tracing's.
        package var isHeap: Bool {
            switch self {
            case .arena, .huge, .metadata, .region: true
            case .file, .shared, .stack, .anonymous, .hugetlb: false
            }
        }
    }

    package struct Row: Equatable, Sendable {
        package var range: Range<UInt64>
        package var kind: Kind
        /// A path or the kernel's name for it; "" for memory without one.
        package var name: String
        package var pageSize: UInt64
        package var pages: PageTally
        /// Of what has memory: bytes that are in no live slot.
        ///
        /// nil for what has no slots.
        package var freeInside: UInt64?

        package init(
            range: Range<UInt64>, kind: Kind, name: String = "", pageSize: UInt64 = 4096,
            pages: PageTally = PageTally(), freeInside: UInt64? = nil
        ) {
            self.range = range
            self.kind = kind
            self.name = name
            self.pageSize = pageSize
            self.pages = pages
            self.freeInside = freeInside
        }

        package var size: UInt64 { range.upperBound - range.lowerBound }
    }

    package var process: ReportedProcess
    /// By address.
    package var rows: [Row]
    /// Bytes of a page of the sums; a mapping's own may be larger.
    package var pageSize: UInt64 = 4096
    package var tellsKinds = true
    package var unknownReason: String?
    package var nodesUnavailable: String?
    /// The rows are all that the process has: their sum is its resident size.
    package var isWhole = false
    package var size: ResidentSize?

    package init(process: ReportedProcess, rows: [Row]) {
        self.process = process
        self.rows = rows
    }

    package init(_ process: ReportedProcess, _ reading: MemoryReading, isWhole: Bool) {
        self.init(process: process, rows: [])
        pageSize = reading.sums.pageSize
        tellsKinds = reading.sums.tellsKinds
        unknownReason = reading.sums.unknownReason
        nodesUnavailable = reading.sums.nodesUnavailable
        self.isWhole = isWhole
        size = isWhole ? reading.size : nil
        let arenas = reading.walk.arenas.map(\.range).sorted { $0.lowerBound < $1.lowerBound }
        var arena = 0
        for (index, piece) in reading.space.pieces.enumerated() {
            while arena < arenas.count, arenas[arena].upperBound <= piece.range.lowerBound {
                arena += 1
            }
            let isInArena =
                arena < arenas.count && arenas[arena].contains(piece.range.lowerBound)
            var row = Row(piece, reading, isInArena: isInArena)
            guard isWhole || row.kind.isHeap else { continue }
            row.pages = reading.sums.tallies[index]
            if row.freeInside != nil {
                row.freeInside = reading.populated(index).minus(reading.populatedLive(index))
            }
            add(row, isInArena ? arenas[arena] : nil)
        }
    }

    /// Pieces of one arena are one row, and so are adjoining ones of one kind and name.
    private mutating func add(_ row: Row, _ arena: Range<UInt64>?) {
        if let last = rows.last, last.kind == row.kind, last.name == row.name,
            last.pageSize == row.pageSize, last.range.upperBound == row.range.lowerBound,
            row.kind != .huge,
            arena == nil || last.range.lowerBound >= arena?.lowerBound ?? 0
        {
            let end = rows.count - 1
            rows[end].range = last.range.lowerBound..<row.range.upperBound
            rows[end].pages.add(row.pages)
            rows[end].freeInside = last.freeInside.map { $0 + (row.freeInside ?? 0) }
        } else {
            rows.append(row)
        }
    }

    /// Memory of all rows, in bytes: of those that count as resident.
    package var populated: UInt64 {
        rows.reduce(0) { $1.kind == .hugetlb ? $0 : $0 + $1.pages.populated.times(pageSize) }
    }

    package var total: PageTally { rows.reduce(into: PageTally()) { $0.add($1.pages) } }

    package var remainder: Int64? {
        size.map { Int64(clamping: $0.resident) - Int64(clamping: populated) }
    }
}

extension MapReport.Row {
    fileprivate init(
        _ piece: AddressSpace.Piece, _ reading: MemoryReading, isInArena: Bool
    ) {
        self.init(range: piece.range, kind: .arena, pageSize: reading.sums.pageSize)
        switch piece.use {
        case .span, .waiting, .free:
            kind = isInArena ? .arena : .huge
            freeInside = 0
        case .metadata: kind = .metadata
        case .region: kind = .region
        case .other(let number):
            let mapping = reading.space.mappings[number]
            name = mapping.name
            pageSize = reading.mappingPageSizes[number]
            switch MemoryReport.Other(mapping) {
            case .files: kind = .file
            case .shared: kind = .shared
            case .stack: kind = .stack
            case .anonymous: kind = .anonymous
            }
            if reading.isHugetlb(mapping: number) { kind = .hugetlb }
        }
    }
}
