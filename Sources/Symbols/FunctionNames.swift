// SPDX-License-Identifier: MIT

import CDw

/// Names of functions as DWARF spells them, demangled; each is worked out once.
final class FunctionNames {
    /// By the entry's place in memory, which is unique among all open files.
    private var known: [UnsafeMutableRawPointer: String?] = [:]
    private var demangled: [String: String] = [:]

    func name(
        of die: Dwarf_Die, unit: Dwarf_Die, end: UnsafeRawPointer, budget: inout WorkBudget
    ) -> String? {
        var origin = Self.origin(of: die)
        guard let place = origin.addr else { return nil }
        if let name = known[place] { return name }
        let name = Self.linkageName(of: &origin).map(demangle)
            ?? Self.qualifiedName(of: origin, unit: unit, end: end, budget: &budget)
        known[place] = .some(name)
        return name
    }

    /// The mangled name, which says more than the others: scopes, parameters, template arguments.
    private static func linkageName(of die: inout Dwarf_Die) -> String? {
        let raw = die.text(Int(DW_AT_linkage_name)) ?? die.text(Int(DW_AT_MIPS_linkage_name))
        return raw.map { String(cString: $0) }
    }

    /// The entry an inlined or cloned function is an instance of, unless it has a mangled name of
    /// its own.
    private static func origin(of die: Dwarf_Die) -> Dwarf_Die {
        var die = die
        for _ in 0..<8 {
            if die.has(Int(DW_AT_linkage_name)) || die.has(Int(DW_AT_MIPS_linkage_name)) { break }
            guard
                let next = die.reference(Int(DW_AT_abstract_origin))
                    ?? die.reference(Int(DW_AT_specification))
            else { break }
            die = next
        }
        return die
    }

    /// For functions without a mangled name.
    private static func qualifiedName(
        of die: Dwarf_Die, unit: Dwarf_Die, end: UnsafeRawPointer, budget: inout WorkBudget
    ) -> String? {
        var die = die
        guard let raw = dwarf_diename(&die) else { return nil }
        let name = String(cString: raw)
        var unit = unit
        guard die.cu == unit.cu, Self.hasScopes(dwarf_srclang(&unit)), let place = die.addr else {
            return name
        }
        let scopes = Self.scopes(
            of: UnsafeRawPointer(place), unit: unit, end: end, budget: &budget)
        return (scopes + [name]).joined(separator: "::")
    }

    private static func hasScopes(_ language: Int32) -> Bool {
        switch Int(language) {
        case Int(DW_LANG_C_plus_plus), Int(DW_LANG_C_plus_plus_03), Int(DW_LANG_C_plus_plus_11),
            Int(DW_LANG_C_plus_plus_14), Int(DW_LANG_Rust), Int(DW_LANG_ObjC_plus_plus),
            0x2b /* C++17 */, 0x2c /* C++20 */, 0x31 /* C++23 */:
            true
        default: false
        }
    }

    /// Namespaces and types around an entry, outermost first.
    private static func scopes(
        of place: UnsafeRawPointer, unit: Dwarf_Die, end: UnsafeRawPointer, budget: inout WorkBudget
    ) -> [String] {
        var scopes: [(depth: Int, name: String)] = []
        walkDies(below: unit, end: end, budget: &budget) { die, depth, _ in
            guard let here = die.addr, UnsafeRawPointer(here) <= place else { return .stop }
            while let last = scopes.last, last.depth >= depth { scopes.removeLast() }
            guard UnsafeRawPointer(here) < place, let name = scopeName(&die) else { return .skip }
            scopes.append((depth, name))
            return .descend
        }
        return scopes.map(\.name)
    }

    /// Nil for entries that are no scope.
    private static func scopeName(_ die: inout Dwarf_Die) -> String? {
        let tag = Int(dwarf_tag(&die))
        switch tag {
        case Int(DW_TAG_namespace), Int(DW_TAG_module), Int(DW_TAG_class_type),
            Int(DW_TAG_structure_type), Int(DW_TAG_union_type), Int(DW_TAG_enumeration_type),
            Int(DW_TAG_interface_type):
            guard let raw = dwarf_diename(&die) else {
                return tag == Int(DW_TAG_namespace) ? "(anonymous namespace)" : "(anonymous)"
            }
            return String(cString: raw)
        default: return nil
        }
    }
}
