// SPDX-License-Identifier: MIT

import CDw
import Glibc

/// One compilation unit: its functions by address, their inlined calls, its lines.
final class DebugUnit {
    /// The unit as the file has it: what it says of lines is in the same file.
    private var skeleton: Dwarf_Die
    /// The unit's entries; in another file (.dwo) when debug information was split off.
    private var root: Dwarf_Die
    private var end: UnsafeRawPointer
    /// Directory of the file.
    private let home: String
    private var functions: [Function] = []
    private var ranges = AddressRanges()
    private var listing = Listing.none
    private var sources: OpaquePointer?
    private var sourceCount = 0
    private var paths: [UnsafePointer<CChar>: String] = [:]

    private enum Listing {
        case none
        /// Functions below namespaces and modules.
        case shallow
        /// Also those inside other functions and types.
        case deep
    }

    private struct Function {
        let die: Dwarf_Die
        var inlined: [Inlined]?
    }
    /// A piece of an inlined function; pieces are listed outer before inner.
    private struct Inlined {
        let low: UInt64
        let high: UInt64
        let depth: Int
        let die: Dwarf_Die
    }

    init(root: Dwarf_Die, end: UnsafeRawPointer, home: String) {
        skeleton = root
        self.root = root
        self.end = end
        self.home = home
    }

    func frames(
        at address: UInt64, names: FunctionNames, budget: inout WorkBudget, isCode: (UInt64) -> Bool
    ) -> [DebugInfo.Frame] {
        var position = linePosition(of: address)
        guard let (index, start) = function(at: address, budget: &budget, isCode: isCode) else {
            guard position.file != nil else { return [] }
            return [
                DebugInfo.Frame(
                    function: nil, start: 0, file: position.file, line: position.line,
                    column: position.column, isInlined: false)
            ]
        }
        var frames: [DebugInfo.Frame] = []
        for call in inlinedCalls(in: index, at: address, budget: &budget, isCode: isCode).reversed()
        {
            var die = call.die
            frames.append(
                DebugInfo.Frame(
                    function: names.name(of: die, budget: &budget), start: 0,
                    file: position.file, line: position.line, column: position.column,
                    isInlined: true))
            position = callPosition(of: &die)
        }
        let die = functions[index].die
        frames.append(
            DebugInfo.Frame(
                function: names.name(of: die, budget: &budget), start: start,
                file: position.file, line: position.line, column: position.column, isInlined: false)
        )
        return frames
    }

    /// For units that don't say what code they cover.
    func forEachFunctionRange(
        budget: inout WorkBudget, isCode: (UInt64) -> Bool, _ body: (UInt64, UInt64) -> Void
    ) {
        listFunctions(.shallow, budget: &budget, isCode: isCode)
        for function in functions {
            var die = function.die
            die.codeRanges(budget: &budget, isCode: isCode, add: body)
        }
    }
}

// MARK: - Functions

extension DebugUnit {
    private func function(
        at address: UInt64, budget: inout WorkBudget, isCode: (UInt64) -> Bool
    ) -> (index: Int, start: UInt64)? {
        var found: (Int, UInt64)?
        for level in [Listing.shallow, .deep] {
            listFunctions(level, budget: &budget, isCode: isCode)
            ranges.search(address) { index, low in
                found = (index, low)
                return true
            }
            if found != nil { break }
        }
        return found
    }

    private func listFunctions(
        _ wanted: Listing, budget: inout WorkBudget, isCode: (UInt64) -> Bool
    ) {
        switch (listing, wanted) {
        case (.none, _): openSplitUnit(budget: &budget)
        case (.shallow, .deep): break
        default: return
        }
        listing = wanted
        functions.removeAll()
        ranges = AddressRanges()
        walkDies(below: root, end: end, budget: &budget) { die, _, budget in
            switch Int(dwarf_tag(&die)) {
            case Int(DW_TAG_subprogram):
                addFunction(&die, budget: &budget, isCode: isCode)
                return wanted == .deep ? .descend : .skip
            case Int(DW_TAG_namespace), Int(DW_TAG_module):
                return .descend
            default:
                return wanted == .deep ? .descend : .skip
            }
        }
        ranges.sort()
    }

    private func addFunction(
        _ die: inout Dwarf_Die, budget: inout WorkBudget, isCode: (UInt64) -> Bool
    ) {
        guard die.has(Int(DW_AT_low_pc)) || die.has(Int(DW_AT_ranges)) else { return }
        let index = functions.count
        die.codeRanges(budget: &budget, isCode: isCode) { ranges.add($0, $1, value: index) }
        functions.append(Function(die: die, inlined: nil))
    }

    /// Takes the entries from the .dwo file when there is one.
    ///
    /// libdw opens it by itself, and would wait for ever on a FIFO of that name; so all places it
    /// tries are looked at first.
    private func openSplitUnit(budget: inout WorkBudget) {
        var kind: UInt8 = 0
        guard dwarf_cu_info(root.cu, nil, &kind, nil, nil, nil, nil, nil) == 0,
            Int(kind) == Int(DW_UT_skeleton)
        else { return }
        var size = 0
        for place in splitPlaces() {
            do {
                size = max(size, try OpenFile(place, root: "").size)
            } catch .notRegular {
                return
            } catch {}
        }
        var split = Dwarf_Die()
        guard size > 0, dwarf_cu_info(root.cu, nil, nil, nil, &split, nil, nil, nil) == 0,
            split.addr != nil, let splitEnd = Self.end(ofUnit: split)
        else { return }
        budget.add(reading: size)
        root = split
        end = splitEnd
    }

    private func splitPlaces() -> [String] {
        guard let raw = skeleton.text(Int(DW_AT_dwo_name)) ?? skeleton.text(Int(DW_AT_GNU_dwo_name))
        else { return [] }
        let name = String(cString: raw)
        if name.hasPrefix("/") { return [name] }
        let compiled = skeleton.text(Int(DW_AT_comp_dir)).map { String(cString: $0) }
        return [home, compiled].compactMap { $0 }.map { "\($0)/\(name)" }
    }

    /// Where the entries of the unit end that starts with `root`.
    static func end(ofUnit root: Dwarf_Die) -> UnsafeRawPointer? {
        var root = root
        guard let start = root.addr, let dwarf = dwarf_cu_getdwarf(root.cu) else { return nil }
        let position = dwarf_dieoffset(&root)
        var offset: Dwarf_Off = 0
        var next: Dwarf_Off = 0
        var headerSize = 0
        while dwarf_next_unit(dwarf, offset, &next, &headerSize, nil, nil, nil, nil, nil, nil) == 0,
            next > offset
        {
            if offset < position, position < next {
                return UnsafeRawPointer(start) + Int(next - position)
            }
            offset = next
        }
        return nil
    }
}

// MARK: - Inlined calls

extension DebugUnit {
    /// The chain of inlined functions around `address`, outermost first.
    private func inlinedCalls(
        in index: Int, at address: UInt64, budget: inout WorkBudget, isCode: (UInt64) -> Bool
    ) -> [Inlined] {
        if functions[index].inlined == nil {
            functions[index].inlined = listInlined(
                in: functions[index].die, budget: &budget, isCode: isCode)
        }
        var chain: [Inlined] = []
        for piece in functions[index].inlined ?? []
        where piece.low <= address && address < piece.high {
            // Where ranges contradict the nesting the later, deeper one wins.
            while let last = chain.last, last.depth >= piece.depth { chain.removeLast() }
            chain.append(piece)
        }
        return chain
    }

    private func listInlined(
        in die: Dwarf_Die, budget: inout WorkBudget, isCode: (UInt64) -> Bool
    ) -> [Inlined] {
        var found: [Inlined] = []
        walkDies(below: die, end: end, budget: &budget) { die, depth, budget in
            switch Int(dwarf_tag(&die)) {
            case Int(DW_TAG_inlined_subroutine):
                let inlined = die
                die.codeRanges(budget: &budget, isCode: isCode) {
                    found.append(Inlined(low: $0, high: $1, depth: depth, die: inlined))
                }
                return .descend
            case Int(DW_TAG_lexical_block), Int(DW_TAG_try_block), Int(DW_TAG_catch_block):
                return .descend
            default:
                return .skip
            }
        }
        return found
    }
}

// MARK: - Lines

extension DebugUnit {
    private typealias Position = (file: String?, line: Int?, column: Int?)

    private func linePosition(of address: UInt64) -> Position {
        guard let line = dwarf_getsrc_die(&skeleton, address) else { return (nil, nil, nil) }
        var number: Int32 = 0
        var column: Int32 = 0
        dwarf_lineno(line, &number)
        dwarf_linecol(line, &column)
        return (
            path(dwarf_linesrc(line, nil, nil)), number > 0 ? Int(number) : nil,
            column > 0 ? Int(column) : nil
        )
    }

    /// Where the inlined function was called from.
    private func callPosition(of die: inout Dwarf_Die) -> Position {
        func number(_ attribute: Int) -> Int? {
            guard let value = die.unsigned(attribute), value > 0 else { return nil }
            return Int(exactly: value)
        }
        if sources == nil {
            dwarf_getsrcfiles(&root, &sources, &sourceCount)
        }
        var file: String?
        if let sources, let index = die.unsigned(Int(DW_AT_call_file)), index < sourceCount {
            file = path(dwarf_filesrc(sources, Int(index), nil, nil))
        }
        return (file, number(Int(DW_AT_call_line)), number(Int(DW_AT_call_column)))
    }

    /// Absolute, but for names that are none, as "<compiler-generated>".
    private func path(_ raw: UnsafePointer<CChar>?) -> String? {
        guard let raw else { return nil }
        if let known = paths[raw] { return known }
        var path = String(cString: raw)
        if path.hasSuffix("/<compiler-generated>") {
            path = "<compiler-generated>"
        } else if !path.hasPrefix("/"), !path.hasPrefix("<"),
            let directory = skeleton.text(Int(DW_AT_comp_dir))
        {
            path = String(cString: directory) + "/" + path
        }
        paths[raw] = path
        return path
    }
}
