// SPDX-License-Identifier: MIT
import CRegion

/// The call sites of all stacks: a tree whose root, record 0, lies above the outermost frames.
///
/// The region may say anything, so a walk outward ends after `depthLimit` frames (a cycle) and at
/// a parent that is not there.
package struct FrameTree: Sendable {
    package struct Frame: Equatable, Hashable, Sendable {
        /// Return address: the call is the instruction before it.
        package var pc: UInt64
        /// Between two unloadings of modules; tells whose address `pc` was.
        package var epoch: UInt32
    }

    /// Twice the deepest stack a process can be asked to keep.
    package static let depthLimit = 512

    /// A frame as it is used here: what the region says with the records around it.
    ///
    /// Links, and what was not finished, have no address and lead nowhere.
    private struct Record {
        var pc: UInt64 = 0
        var parent: UInt32 = 0
        var epoch: UInt32 = 0
    }

    private let records: [Record]
    /// First record that says the same with the same way out; of a whole tree: itself.
    private let same: [UInt32]

    package var count: Int { records.count }

    init(_ bytes: some RegionBytes, _ header: RegionHeader) throws(HeapImageError) {
        let words = try bytes.records(
            header.frames, named: "frames", atMost: 1 << 28, zero: mc_region_frame())
        // Read again: what was recorded when `header` was read may be in a window that is newer.
        records = Self.decoded(words, windows: try bytes.header().frameWindows)
        same = Self.merged(records)
    }

    /// A frame is below the record before it, or before its prefix, or below what the link there names.
    ///
    /// An epoch is that of the outermost frame, whose link says it.
    private static func decoded(_ words: [mc_region_frame], windows: [UInt64]) -> [Record] {
        var records = [Record](repeating: Record(), count: words.count)
        var parent: UInt32 = 0
        var epoch: UInt32 = 0
        var prefix: UInt32 = 0
        for (index, record) in words.enumerated() {
            let word = record.word
            if word == 0 {
                (parent, epoch) = (0, 0)
            } else if mc_frame_is_link(word) != 0 {
                parent = mc_frame_parent(word)
                epoch =
                    parent == 0
                    ? mc_frame_epoch(word) : Int(parent) < index ? records[Int(parent)].epoch : 0
            } else if mc_frame_is_prefix(word) != 0 {
                prefix = word
            } else {
                let window = mc_frame_window(word)
                let above =
                    window == UInt32(MC_FRAME_WIDE)
                    ? mc_frame_above(prefix) : window == 0 ? 0 : windows[Int(window) - 1] &- 1
                records[index] = Record(
                    pc: mc_frame_pc(word, above), parent: parent, epoch: epoch)
                parent = UInt32(index)
            }
        }
        return records
    }

    package subscript(index: UInt32) -> Frame {
        let record = records[Int(index)]
        return Frame(pc: record.pc, epoch: record.epoch)
    }

    /// The frame with the same place and way out that stands for it and all its equals.
    func representative(_ index: UInt32) -> UInt32 {
        Int(index) < same.count ? same[Int(index)] : 0
    }

    /// The innermost frame that is not `hidden`; 0 if there is none.
    func innermost(from index: UInt32, hiding hidden: (UInt64) -> Bool) -> UInt32 {
        var index = index
        for _ in 0..<Self.depthLimit {
            guard index != 0, Int(index) < records.count else { return 0 }
            guard hidden(records[Int(index)].pc) else { return index }
            index = records[Int(index)].parent
        }
        return 0
    }

    /// Frames from `index` outward; at most `limit`.
    package func path(from index: UInt32, atMost limit: Int = depthLimit) -> [UInt32] {
        var path: [UInt32] = []
        var index = index
        while index != 0, Int(index) < records.count, path.count < limit {
            path.append(index)
            index = records[Int(index)].parent
        }
        return path
    }

    /// Two threads that meet a new call site at once may both have made a record of it.
    ///
    /// Records are compared in order, so that a parent, which is always older, is settled before
    /// its children.
    private static func merged(_ records: [Record]) -> [UInt32] {
        var same = [UInt32](repeating: 0, count: records.count)
        guard records.count > 1 else { return same }
        var slotCount = 16
        while slotCount < records.count * 2 { slotCount *= 2 }
        var slots = [UInt32](repeating: 0, count: slotCount)
        for index in 1..<records.count {
            let record = records[index]
            let parent = Int(record.parent) < index ? same[Int(record.parent)] : record.parent
            var hash = record.pc &* 0x9e37_79b9_7f4a_7c15
            hash ^= (UInt64(parent) << 32 | UInt64(record.epoch)) &* 0xc2b2_ae3d_27d4_eb4f
            hash ^= hash >> 29
            var slot =
                Int(truncatingIfNeeded: (hash &* 0x9e37_79b9_7f4a_7c15) >> 20) & (slotCount - 1)
            while slots[slot] != 0 {
                let other = records[Int(slots[slot])]
                let otherParent =
                    Int(other.parent) < Int(slots[slot])
                    ? same[Int(other.parent)] : other.parent
                if other.pc == record.pc, other.epoch == record.epoch, otherParent == parent {
                    break
                }
                slot = (slot + 1) & (slotCount - 1)
            }
            if slots[slot] == 0 { slots[slot] = UInt32(index) }
            same[index] = slots[slot]
        }
        return same
    }
}
