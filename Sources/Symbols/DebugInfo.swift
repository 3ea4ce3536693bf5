// SPDX-License-Identifier: MIT

import CDw

/// The DWARF of one file: which compilation unit covers an address, and through it which
/// functions, inlined ones included, and which source lines.
///
/// Opening reads the heads of all units, no more. A unit's functions are listed when an address in
/// it is first asked for, a function's inlined calls likewise; both then stay. So the cost follows
/// the code that was hit, not the size of the file.
final class DebugInfo {
    let file: ElfFile
    private let handle: OpaquePointer
    private var ranges = AddressRanges()
    private var units: [DebugUnit] = []
    /// Units that say nothing of their range; their functions do.
    private var unranged: [Int] = []
    private var budget: WorkBudget
    private var alternate: AlternateDebugInfo?
    private let isCode: (UInt64) -> Bool
    let names = FunctionNames()

    /// One function an address is in.
    struct Frame {
        var function: FunctionNames.Name?
        /// Start of the piece of code the address is in; 0 for inlined functions.
        var start: UInt64
        var file: String?
        var line: Int?
        var column: Int?
        var isInlined: Bool
    }

    /// Nil when the file has no usable DWARF.
    ///
    /// `isCode` tells addresses the module has code at.
    init?(_ file: ElfFile, search: DebugFileSearch, isCode: @escaping (UInt64) -> Bool) {
        guard Self.isPlausible(file), let handle = dwarf_begin_elf(file.handle, DWARF_C_READ, nil)
        else { return nil }
        guard search.attachAlternate(to: handle, of: file, &alternate) else {
            dwarf_end(handle)
            return nil
        }
        self.file = file
        self.handle = handle
        self.isCode = isCode
        let size = file.sections().filter { $0.name.contains("debug") }.reduce(UInt64(0)) {
            min($0 + min($1.header.sh_size, 1 << 40), 1 << 40)
        }
        budget = WorkBudget(reading: Int(size))
        listUnits()
    }

    deinit {
        units.removeAll()
        dwarf_end(handle)
    }

    /// The work a damaged or hostile file asked for was more than it is worth.
    var gaveUp: Bool { budget.isSpent }

    /// Compressed sections that claim to be larger than any honest ones would fill memory.
    private static func isPlausible(_ file: ElfFile) -> Bool {
        var total: UInt64 = 0
        for section in file.sections()
        where section.header.sh_flags & UInt64(SHF_COMPRESSED) != 0 {
            var header = GElf_Chdr()
            guard gelf_getchdr(section.handle, &header) != nil, header.ch_size < 1 << 40 else {
                return false
            }
            total += header.ch_size
            if total > 8 << 30 { return false }
        }
        return true
    }

    private func listUnits() {
        var offset: Dwarf_Off = 0
        while !budget.isSpent {
            var next: Dwarf_Off = 0
            var headerSize = 0
            guard
                dwarf_next_unit(
                    handle, offset, &next, &headerSize, nil, nil, nil, nil, nil, nil) == 0,
                next > offset
            else { break }
            var root = Dwarf_Die()
            let first = offset + Dwarf_Off(headerSize)
            if next > first, dwarf_offdie(handle, first, &root) != nil {
                add(root, size: next - first)
            }
            offset = next
        }
        ranges.sort()
        if !unranged.isEmpty { addUnranged() }
    }

    private func add(_ root: Dwarf_Die, size: Dwarf_Off) {
        var root = root
        let tag = Int(dwarf_tag(&root))
        guard tag == Int(DW_TAG_compile_unit) || tag == Int(DW_TAG_skeleton_unit),
            let start = root.addr
        else { return }
        let index = units.count
        units.append(
            DebugUnit(root: root, end: UnsafeRawPointer(start) + Int(size), home: file.home))
        var found = false
        root.codeRanges(budget: &budget, isCode: isCode) {
            found = true
            ranges.add($0, $1, value: index)
        }
        if !found, !root.has(Int(DW_AT_ranges)), !root.has(Int(DW_AT_low_pc)) {
            unranged.append(index)
        }
    }

    private func addUnranged() {
        for index in unranged {
            units[index].forEachFunctionRange(budget: &budget, isCode: isCode) {
                ranges.add($0, $1, value: index)
            }
        }
        ranges.sort()
    }

    /// Innermost first; empty when no unit covers the address.
    func frames(at address: UInt64) -> [Frame] {
        var best: [Frame] = []
        ranges.search(address) { index, _ in
            let unit = units[index]
            let frames = unit.frames(
                at: address, names: names, budget: &budget, isCode: isCode)
            guard frames.last?.function == nil else {
                best = frames
                return true
            }
            // A unit may claim a range that another one's function is in: look further.
            if best.isEmpty { best = frames }
            return false
        }
        return best
    }
}
