// SPDX-License-Identifier: MIT

/// Something that is wrong in a heap, and where.
package struct HeapFinding: Sendable {
    /// What kind of fact does not hold.
    package enum Kind: String, CaseIterable, Sendable {
        /// Counts and addresses of the heap root.
        case root
        /// Bounds or bitmaps of an arena.
        case arena
        /// A slice is in use where it can't be, or is not where it must.
        case slices
        /// Base, size, slot size or number of slots.
        case spanBounds = "span_bounds"
        /// Two spans share slices.
        case spanOverlap = "span_overlap"
        /// State, flags or owner.
        case spanState = "span_state"
        /// used + free = fresh does not hold.
        case spanCounts = "span_counts"
        /// No thread has it.
        case spanLost = "span_lost"
        /// A list of free slots leads out of them, or in a circle.
        case listLink = "list_link"
        /// Two lists of free slots have some in common.
        case listShared = "list_shared"
        /// A free slot was written to.
        case listMark = "list_mark"
        /// A free slot has a tag.
        case listTag = "list_tag"
        /// A tag names a stack that there is not.
        case tag
        /// A slice does not lead to its span.
        case pageMap = "page_map"
        /// A page map entry leads to no span of these slices.
        case pageMapStray = "page_map_stray"
        /// The list of threads.
        case threads
        /// A thread's spans.
        case threadSpan = "thread_span"
        /// Sums of huge slots.
        case hugeSums = "huge_sums"
    }

    package enum Place: Hashable, Sendable {
        case root
        /// By its base.
        case arena(UInt64)
        /// By its base.
        case span(UInt64)
        /// By its number.
        case thread(UInt32)
    }

    package var kind: Kind
    package var place: Place
    /// The slot, slice or entry that is meant, or what else tells it from others of its kind.
    package var at: UInt64
    /// For people: numbers in it may differ from look to look.
    package var what: String

    package init(kind: Kind, place: Place, at: UInt64, what: String) {
        self.kind = kind
        self.place = place
        self.at = at
        self.what = what
    }

    /// Tells whether a thread that is in the middle of an allocation or a free may leave it like
    /// this for a moment.
    package var mayBeTransient: Bool {
        switch kind {
        case .slices, .spanOverlap, .spanCounts, .spanState, .spanLost, .listShared, .pageMap,
            .pageMapStray, .threadSpan, .hugeSums:
            true
        default: false
        }
    }
}

/// Two looks found the same if all but the text is equal.
extension HeapFinding: Hashable {
    package static func == (left: HeapFinding, right: HeapFinding) -> Bool {
        left.kind == right.kind && left.place == right.place && left.at == right.at
    }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(kind)
        hasher.combine(place)
        hasher.combine(at)
    }
}

/// By place, then as they were found.
extension HeapFinding: Comparable {
    package static func < (left: HeapFinding, right: HeapFinding) -> Bool {
        let order = { (finding: HeapFinding) in
            (
                finding.place.order.rank, finding.place.order.number, finding.at,
                finding.kind.rawValue
            )
        }
        return order(left) < order(right)
    }
}

extension HeapFinding.Place {
    fileprivate var order: (rank: Int, number: UInt64) {
        switch self {
        case .root: (0, 0)
        case .arena(let base): (1, base)
        case .span(let base): (2, base)
        case .thread(let number): (3, UInt64(number))
        }
    }
}
