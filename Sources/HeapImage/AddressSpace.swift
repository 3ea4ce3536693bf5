// SPDX-License-Identifier: MIT

/// Everything a process has mapped, cut by who uses it: the heap's spans and free slices, its own
/// structures, the region, and what is not the heap's.
///
/// Pieces are in order and disjoint. Where structures that were read while they changed contradict
/// each other, the one at the lower address has the bytes.
package struct AddressSpace: Sendable {
    package enum Use: Equatable, Sendable {
        /// Indexes into the walk's `spans`, `waiting` and `arenas`.
        case span(Int)
        case waiting(Int)
        case free(arena: Int)
        /// The heap's own structures.
        case metadata
        /// The region of the process.
        case region
        /// Not the heap's: an index into `mappings`.
        case other(mapping: Int)
    }

    package struct Piece: Equatable, Sendable {
        package var range: Range<UInt64>
        package var use: Use

        package init(_ range: Range<UInt64>, _ use: Use) {
            self.range = range
            self.use = use
        }
    }

    package let mappings: [Mapping]
    package let pieces: [Piece]

    /// `isRegion` tells whether a mapping is that of the process' region.
    package init(
        _ walk: HeapWalk, mappings: [Mapping], isRegion: (Mapping) -> Bool = { _ in false }
    ) {
        self.mappings = mappings
        let heap = Self.heapPieces(walk)
        var pieces: [Piece] = []
        var next = 0
        for (index, mapping) in mappings.enumerated() {
            let use: Use = isRegion(mapping) ? .region : .other(mapping: index)
            var position = mapping.range.lowerBound
            while position < mapping.range.upperBound {
                while next < heap.count, heap[next].range.upperBound <= position {
                    pieces.append(heap[next])
                    next += 1
                }
                let begin = next < heap.count ? heap[next].range.lowerBound : .max
                let end = min(mapping.range.upperBound, max(begin, position))
                if end > position { pieces.append(Piece(position..<end, use)) }
                position = end
                if next < heap.count, begin <= position {
                    position = min(heap[next].range.upperBound, mapping.range.upperBound)
                }
            }
        }
        pieces += heap[next...]
        self.pieces = pieces
    }

    /// The heap's pieces alone: all of its arenas, huge slots and structures.
    package static func heapPieces(_ walk: HeapWalk) -> [Piece] {
        var pieces: [Piece] = []
        pieces.reserveCapacity(walk.spans.count + walk.waiting.count)
        for (index, span) in walk.spans.enumerated() {
            pieces.append(Piece(span.range, .span(index)))
        }
        for (index, span) in walk.waiting.enumerated() {
            pieces.append(Piece(span.range, .waiting(index)))
        }
        for range in walk.metadata + walk.tracing { pieces.append(Piece(range, .metadata)) }
        pieces = disjoint(pieces)
        var all: [Piece] = []
        all.reserveCapacity(pieces.count * 2)
        var next = 0
        let arenas = walk.arenas.indices.sorted { walk.arenas[$0].base < walk.arenas[$1].base }
        for index in arenas {
            let arena = walk.arenas[index].range
            while next < pieces.count, pieces[next].range.upperBound <= arena.lowerBound {
                all.append(pieces[next])
                next += 1
            }
            var position = max(arena.lowerBound, all.last?.range.upperBound ?? 0)
            while position < arena.upperBound {
                let begin = next < pieces.count ? pieces[next].range.lowerBound : .max
                let end = min(begin, arena.upperBound)
                if end > position { all.append(Piece(position..<end, .free(arena: index))) }
                guard begin < arena.upperBound else { break }
                all.append(pieces[next])
                position = pieces[next].range.upperBound
                next += 1
            }
        }
        return all + pieces[next...]
    }

    private static func disjoint(_ pieces: [Piece]) -> [Piece] {
        var result: [Piece] = []
        result.reserveCapacity(pieces.count)
        let sorted = pieces.sorted {
            ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound)
        }
        for var piece in sorted {
            let end = result.last?.range.upperBound ?? 0
            guard piece.range.upperBound > end else { continue }
            if piece.range.lowerBound < end { piece.range = end..<piece.range.upperBound }
            result.append(piece)
        }
        return result
    }

    /// Ranges for PageSums: of each piece the owner that `owner` says, or none.
    package func owned(_ owner: (Use) -> Int?) -> [OwnedRange] {
        Self.owned(pieces, owner)
    }

    package static func owned(_ pieces: [Piece], _ owner: (Use) -> Int?) -> [OwnedRange] {
        pieces.compactMap { piece in
            owner(piece.use).map { OwnedRange(piece.range, owner: $0) }
        }
    }
}
