// SPDX-License-Identifier: MIT
// Walking debugging information entries in file order.
//
// libdw finds a DIE's sibling by stepping over its children unless the compiler recorded where the
// sibling is; clang, swiftc and rustc don't. Walking down and asking for siblings on every level
// would then read each DIE once per level above it. Here a level's end, where libdw stops, is
// taken as the place where the parent's sibling starts, so every DIE is read once.

import CDw

/// What a malformed file may cost us: a file that makes the walk longer than any honest file of
/// its size could is given up.
struct WorkBudget {
    private(set) var left: Int
    var isSpent: Bool { left <= 0 }

    /// Every entry and every range takes at least a byte, and is visited a few times at most.
    init(reading size: Int) { left = 8 * (size + 1 << 20) }

    mutating func add(reading size: Int) { left += 8 * min(size, 1 << 40) }

    mutating func spend(_ units: Int = 1) { left -= units }
}

enum DieStep {
    case descend
    case skip
    case stop
}

/// Calls `visit` for what is below `parent` with the depth below it, children before siblings.
///
/// `end` is where the unit's entries end.
func walkDies(
    below parent: Dwarf_Die, end: UnsafeRawPointer, budget: inout WorkBudget,
    visit: (inout Dwarf_Die, _ depth: Int, _ budget: inout WorkBudget) -> DieStep
) {
    var parent = parent
    var die = Dwarf_Die()
    var depth = 0
    guard dwarf_child(&parent, &die) == 0 else { return }
    while !budget.isSpent {
        budget.spend()
        let step = visit(&die, depth, &budget)
        if step == .stop { return }
        var next = Dwarf_Die()
        if step == .descend {
            let status = dwarf_child(&die, &next)
            if status < 0 { return }
            if status == 0 {
                depth += 1
                die = next
                continue
            }
        }
        let status = dwarf_siblingof(&die, &next)
        guard status >= 0, let here = die.addr, let place = next.addr,
            UnsafeRawPointer(place) > UnsafeRawPointer(here)
        else { return }  // also a sibling that lies behind us: such a file has a loop
        if status == 0 {
            die = next
            continue
        }
        // `place` is the zero that ends this level. Further zeros end the levels above.
        var after = UnsafeRawPointer(place)
        repeat {
            depth -= 1
            after += 1
            if depth < 0 || after >= end { return }
        } while after.load(as: UInt8.self) == 0
        die = Dwarf_Die(
            addr: UnsafeMutableRawPointer(mutating: after), cu: die.cu, abbrev: nil, padding__: 0)
    }
}

extension Dwarf_Die {
    /// Code ranges of the entry that can be real: dead code removed by a linker is left at address
    /// 0, 1 or at the very end, which `isCode` tells.
    mutating func codeRanges(
        budget: inout WorkBudget, isCode: (UInt64) -> Bool,
        add: (_ low: UInt64, _ high: UInt64) -> Void
    ) {
        var base: Dwarf_Addr = 0
        var low: Dwarf_Addr = 0
        var high: Dwarf_Addr = 0
        var position = 0
        while !budget.isSpent {
            position = dwarf_ranges(&self, position, &base, &low, &high)
            guard position > 0 else { return }
            budget.spend()
            if low < high, isCode(low) { add(low, high) }
        }
    }

    mutating func has(_ attribute: Int) -> Bool { dwarf_hasattr(&self, UInt32(attribute)) != 0 }

    mutating func unsigned(_ attribute: Int) -> UInt64? {
        var found = Dwarf_Attribute()
        var value: Dwarf_Word = 0
        guard dwarf_attr(&self, UInt32(attribute), &found) != nil,
            dwarf_formudata(&found, &value) == 0
        else { return nil }
        return value
    }

    /// The attribute of this entry or of the ones it is an instance of.
    mutating func text(_ attribute: Int) -> UnsafePointer<CChar>? {
        var found = Dwarf_Attribute()
        guard dwarf_attr_integrate(&self, UInt32(attribute), &found) != nil else { return nil }
        return UnsafePointer(dwarf_formstring(&found))
    }

    mutating func reference(_ attribute: Int) -> Dwarf_Die? {
        var found = Dwarf_Attribute()
        var target = Dwarf_Die()
        guard dwarf_attr(&self, UInt32(attribute), &found) != nil,
            dwarf_formref_die(&found, &target) != nil
        else { return nil }
        return target
    }
}
