// SPDX-License-Identifier: MIT
import CRegion

/// The tags of some of a span's slots, one after the other.
///
/// A span has up to two: of the slots that are carved first, and of the others (tag.h).
struct TagArray: Equatable {
    /// The slot whose tag comes first.
    var firstSlot: UInt32
    var count: UInt32
    /// Address of the first tag.
    var start: UInt64

    var range: MemoryRange { MemoryRange(start: start, size: Int(count) * 8) }

    /// - Parameters:
    ///   - tags, more: as in `mc_span`; 0 where there is none.
    static func all(tags: UInt64, more: UInt64, slotCount: UInt32) -> [TagArray] {
        let first = mc_tags_first(slotCount)
        var arrays: [TagArray] = []
        if tags != 0, first > 0 { arrays.append(TagArray(firstSlot: 0, count: first, start: tags)) }
        if more != 0, slotCount > first {
            arrays.append(
                TagArray(
                    firstSlot: first, count: slotCount - first, start: more &+ UInt64(first) * 8))
        }
        return arrays
    }

    /// Where the tag of a slot is; nil if it has none.
    static func place(of slot: UInt32, in arrays: [TagArray]) -> UInt64? {
        arrays.first { slot >= $0.firstSlot && slot - $0.firstSlot < $0.count }.map {
            $0.start &+ UInt64(slot - $0.firstSlot) * 8
        }
    }
}

extension mc_span {
    /// Bytes of address space.
    var byteCount: UInt64 {
        var copy = self
        return mc_span_size(&copy)
    }

    /// Of a class span.
    var tagArrays: [TagArray] {
        TagArray.all(tags: tags, more: more_tags, slotCount: UInt32(slot_count))
    }
}
