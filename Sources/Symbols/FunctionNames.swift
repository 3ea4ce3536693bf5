// SPDX-License-Identifier: MIT

import CDw

/// Names of functions as DWARF spells them, demangled; each is worked out once.
///
/// A mangled name says most: scopes, parameters, template arguments. Functions that have none
/// (lambdas, members of local types) are named by the scopes around them; those are gathered in one
/// walk per unit, when the first such name is asked for.
final class FunctionNames {
    struct Name {
        let text: String
        /// The symbol table may know a better one.
        let isMangled: Bool
    }

    /// By the entry's place in memory, which is unique among all open files.
    private var known: [UnsafeMutableRawPointer: Name?] = [:]
    private var scopes: [OpaquePointer: [UnsafeMutableRawPointer: String]] = [:]

    func name(of die: Dwarf_Die, budget: inout WorkBudget) -> Name? {
        var origin = Self.origin(of: die)
        guard let place = origin.addr else { return nil }
        if let name = known[place] { return name }
        let name: Name?
        if let mangled = Self.linkageName(of: &origin) {
            name = Name(text: demangle(mangled), isMangled: true)
        } else {
            name = qualifiedName(of: &origin, budget: &budget).map {
                Name(text: $0, isMangled: false)
            }
        }
        known[place] = .some(name)
        return name
    }

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

    private func qualifiedName(of die: inout Dwarf_Die, budget: inout WorkBudget) -> String? {
        guard let raw = dwarf_diename(&die), let unit = die.cu, let place = die.addr else {
            return nil
        }
        let name = String(cString: raw)
        if scopes[unit] == nil { scopes[unit] = Self.gatherScopes(of: unit, budget: &budget) }
        guard let scope = scopes[unit]?[place] else { return name }
        return "\(scope)::\(name)"
    }

    /// What is around each function without a mangled name, in languages that have scopes.
    private static func gatherScopes(
        of unit: OpaquePointer, budget: inout WorkBudget
    ) -> [UnsafeMutableRawPointer: String] {
        var root = Dwarf_Die()
        guard dwarf_cu_die(unit, &root, nil, nil, nil, nil, nil, nil) != nil,
            hasScopes(dwarf_srclang(&root)), let end = DebugUnit.end(ofUnit: root)
        else { return [:] }
        var found: [UnsafeMutableRawPointer: String] = [:]
        var around: [(depth: Int, name: String)] = []
        walkDies(below: root, end: end, budget: &budget) { die, depth, _ in
            while let last = around.last, last.depth >= depth { around.removeLast() }
            switch Int(dwarf_tag(&die)) {
            case Int(DW_TAG_subprogram):
                let isMangled = die.has(Int(DW_AT_linkage_name))
                if !isMangled, !around.isEmpty, let place = die.addr {
                    found[place] = around.map(\.name).joined(separator: "::")
                }
                if let name = dwarf_diename(&die) { around.append((depth, String(cString: name))) }
            case Int(DW_TAG_lexical_block):
                break
            default:
                guard let name = scopeName(&die) else { return .skip }
                around.append((depth, name))
            }
            return .descend
        }
        return found
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

    /// Nil for entries that are no scope.
    private static func scopeName(_ die: inout Dwarf_Die) -> String? {
        let tag = Int(dwarf_tag(&die))
        switch tag {
        case Int(DW_TAG_namespace), Int(DW_TAG_module), Int(DW_TAG_class_type),
            Int(DW_TAG_structure_type), Int(DW_TAG_union_type), Int(DW_TAG_enumeration_type),
            Int(DW_TAG_interface_type):
            if let raw = dwarf_diename(&die) { return String(cString: raw) }
            return tag == Int(DW_TAG_namespace) ? "(anonymous namespace)" : "(anonymous)"
        default: return nil
        }
    }
}
