// SPDX-License-Identifier: MIT

import CDw

/// Names of functions as DWARF spells them, demangled; each is worked out once.
///
/// Of a function in a language with scopes the mangled name says most: scopes, parameters, template
/// arguments. Those that have none (lambdas, members of local types) are named by the scopes around
/// them; these are gathered in one walk per unit, when the first such name is asked for. A function
/// in C is called what its source calls it: what stands for a mangled name there is an alias
/// (`__GI_fflush`).
final class FunctionNames {
    struct Name {
        let text: String
        /// False when the symbol table may know a better one.
        let isComplete: Bool
    }
    private enum Language {
        case plain
        case scoped
        case other
    }

    /// By the entry's place in memory, which is unique among all open files.
    private var known: [UnsafeMutableRawPointer: Name?] = [:]
    private var languages: [OpaquePointer: Language] = [:]
    private var scopes: [OpaquePointer: [UnsafeMutableRawPointer: String]] = [:]

    func name(of die: Dwarf_Die, budget: inout WorkBudget) -> Name? {
        var origin = Self.origin(of: die)
        guard let place = origin.addr, let unit = origin.cu else { return nil }
        if let name = known[place] { return name }
        let name: Name?
        if language(of: unit) == .plain, let raw = dwarf_diename(&origin) {
            name = Name(text: String(cString: raw), isComplete: true)
        } else if let mangled = Self.linkageName(of: &origin) {
            name = Name(text: demangle(mangled), isComplete: true)
        } else {
            name = qualifiedName(of: &origin, in: unit, budget: &budget).map {
                Name(text: $0, isComplete: false)
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

    private func qualifiedName(
        of die: inout Dwarf_Die, in unit: OpaquePointer, budget: inout WorkBudget
    ) -> String? {
        guard let raw = dwarf_diename(&die), let place = die.addr else { return nil }
        let name = String(cString: raw)
        guard language(of: unit) == .scoped else { return name }
        if scopes[unit] == nil { scopes[unit] = Self.gatherScopes(of: unit, budget: &budget) }
        guard let scope = scopes[unit]?[place] else { return name }
        return "\(scope)::\(name)"
    }

    private func language(of unit: OpaquePointer) -> Language {
        if let known = languages[unit] { return known }
        var root = Dwarf_Die()
        let found =
            dwarf_cu_die(unit, &root, nil, nil, nil, nil, nil, nil) != nil
            ? Self.language(dwarf_srclang(&root)) : .other
        languages[unit] = found
        return found
    }

    /// The newest are not in every dwarf.h.
    private static func language(_ code: Int32) -> Language {
        switch Int(code) {
        case Int(DW_LANG_C), Int(DW_LANG_C89), Int(DW_LANG_C99), Int(DW_LANG_C11), 0x2c /* C17 */,
            0x3e /* C23 */, 0x31 /* assembly */, Int(DW_LANG_Mips_Assembler):
            .plain
        case Int(DW_LANG_C_plus_plus), Int(DW_LANG_C_plus_plus_03), Int(DW_LANG_C_plus_plus_11),
            Int(DW_LANG_C_plus_plus_14), 0x2a /* C++17 */, 0x2b /* C++20 */, 0x3a /* C++23 */,
            Int(DW_LANG_ObjC_plus_plus), Int(DW_LANG_Rust):
            .scoped
        default: .other
        }
    }

    /// What is around each function without a mangled name.
    private static func gatherScopes(
        of unit: OpaquePointer, budget: inout WorkBudget
    ) -> [UnsafeMutableRawPointer: String] {
        var root = Dwarf_Die()
        guard dwarf_cu_die(unit, &root, nil, nil, nil, nil, nil, nil) != nil,
            let end = DebugUnit.end(ofUnit: root)
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
