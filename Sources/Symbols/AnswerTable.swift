// SPDX-License-Identifier: MIT

/// Answers already given, by address and epoch: a flat hash table, since a report of a hundred
/// thousand backtraces asks millions of times for tens of thousands of addresses.
///
/// Linear probing, at most half full; slot 0 of `answers` is not used, so that 0 means empty.
struct AnswerTable {
    private struct Slot {
        var address: UInt64 = 0
        var epoch: UInt32 = 0
        var answer: UInt32 = 0
    }
    private var slots = [Slot](repeating: Slot(), count: 1 << 12)
    private var answers: [[Location]] = [[]]

    func find(_ address: UInt64, _ epoch: UInt32) -> [Location]? {
        slots.withUnsafeBufferPointer { slots in
            var index = Self.hash(address, epoch) & (slots.count - 1)
            while slots[index].answer != 0 {
                if slots[index].address == address, slots[index].epoch == epoch {
                    return answers[Int(slots[index].answer)]
                }
                index = (index + 1) & (slots.count - 1)
            }
            return nil
        }
    }

    /// Requires that `find` gave nil.
    ///
    /// Answers beyond the table's capacity are not kept.
    mutating func insert(_ answer: [Location], _ address: UInt64, _ epoch: UInt32) {
        guard answers.count < 1 << 28 else { return }
        if answers.count * 2 > slots.count { grow() }
        answers.append(answer)
        place(Slot(address: address, epoch: epoch, answer: UInt32(answers.count - 1)))
    }

    private mutating func grow() {
        let old = slots
        slots = [Slot](repeating: Slot(), count: old.count * 2)
        for slot in old where slot.answer != 0 { place(slot) }
    }

    private mutating func place(_ slot: Slot) {
        var index = Self.hash(slot.address, slot.epoch) & (slots.count - 1)
        while slots[index].answer != 0 { index = (index + 1) & (slots.count - 1) }
        slots[index] = slot
    }

    /// The upper half of a product depends on all bits of both factors' lower ones.
    private static func hash(_ address: UInt64, _ epoch: UInt32) -> Int {
        let mixed = (address ^ UInt64(epoch) << 48) &* 0x9e37_79b9_7f4a_7c15
        return Int(truncatingIfNeeded: mixed >> 32)
    }
}
