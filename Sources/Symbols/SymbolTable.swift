// SPDX-License-Identifier: MIT

import CDw

/// The functions of one module by address, from its ELF symbol tables.
///
/// Entries are sorted by start, best first where starts are equal; `reach[i]` is the largest end
/// among the first i + 1. A lookup is a binary search and a short walk back to the innermost entry
/// that contains the address. A label without size (hand-written assembly) covers what lies
/// between it and the next symbol or its section's end, but only where no sized symbol does.
struct SymbolTable {
    private var entries: [Entry] = []
    private var reach: [UInt64] = []
    private var sources: [Source] = []

    private struct Entry {
        let start: UInt64
        let end: UInt64  // of a label: its section's
        let name: UInt32
        let source: UInt16
        let rank: UInt8
        let isLabel: Bool
    }
    /// Keeps the file alive whose string table the names are in.
    private struct Source {
        let file: ElfFile
        let strings: Int
        let shift: UInt64
    }
    struct Match {
        let name: String
        let start: UInt64
    }

    var isEmpty: Bool { entries.isEmpty }

    /// Adds the tables of `file`.
    ///
    /// `shift` is what its addresses must be raised by to be the module's: 0 unless the two files
    /// were linked, or prelinked, apart.
    mutating func add(_ file: ElfFile, shift: UInt64 = 0) {
        let sections = file.sections()
        let full = sections.filter { Int($0.header.sh_type) == Int(SHT_SYMTAB) }
        // A full table holds the dynamic symbols too. A debug file keeps the header of .dynsym
        // without its contents.
        let tables =
            full.isEmpty
            ? sections.filter { Int($0.header.sh_type) == Int(SHT_DYNSYM) } : full
        for table in tables where sources.count < Int(UInt16.max) {
            add(table, of: file, sections: sections, shift: shift)
        }
    }

    private mutating func add(
        _ table: ElfSection, of file: ElfFile, sections: [ElfSection], shift: UInt64
    ) {
        guard let data = elf_getdata(table.handle, nil), data.pointee.d_buf != nil,
            elf_strptr(file.handle, Int(table.header.sh_link), 0) != nil
        else { return }
        let entrySize = gelf_fsize(file.handle, ELF_T_SYM, 1, UInt32(EV_CURRENT))
        guard entrySize > 0 else { return }
        let source = UInt16(sources.count)
        sources.append(Source(file: file, strings: Int(table.header.sh_link), shift: shift))
        let count = min(data.pointee.d_size / entrySize, Int(Int32.max))
        entries.reserveCapacity(entries.count + count)
        let codeEnds = Self.codeEnds(sections)
        var symbol = GElf_Sym()
        for index in 0..<count where gelf_getsym(data, Int32(index), &symbol) != nil {
            guard let rank = Self.rank(symbol), symbol.st_name != 0,
                Int(symbol.st_shndx) < codeEnds.count
            else { continue }
            let isLabel = symbol.st_size == 0
            let limit = codeEnds[Int(symbol.st_shndx)]
            guard symbol.st_value < limit else { continue }
            let end =
                isLabel ? limit : symbol.st_value &+ min(symbol.st_size, limit - symbol.st_value)
            entries.append(
                Entry(
                    start: symbol.st_value &+ shift, end: end &+ shift, name: symbol.st_name,
                    source: source, rank: rank, isLabel: isLabel))
        }
    }

    /// By section index: where it ends; 0 for those that hold no instructions.
    private static func codeEnds(_ sections: [ElfSection]) -> [UInt64] {
        var ends = [UInt64](repeating: 0, count: (sections.last?.index ?? 0) + 1)
        for section in sections where section.header.sh_flags & UInt64(SHF_EXECINSTR) != 0 {
            let (end, overflow) = section.header.sh_addr.addingReportingOverflow(
                section.header.sh_size)
            if !overflow { ends[section.index] = end }
        }
        return ends
    }

    /// Lower is better: functions before labels, exported before local.
    ///
    /// Nil for what is no function.
    private static func rank(_ symbol: GElf_Sym) -> UInt8? {
        let type = Int(symbol.st_info & 15)
        let binding = Int(symbol.st_info >> 4)
        guard type == Int(STT_FUNC) || type == Int(STT_GNU_IFUNC) || type == Int(STT_NOTYPE) else {
            return nil
        }
        let label: UInt8 = type == Int(STT_NOTYPE) || symbol.st_size == 0 ? 4 : 0
        if binding == Int(STB_LOCAL) { return label + 2 }
        return binding == Int(STB_WEAK) ? label + 1 : label
    }

    /// To be called once, after the last `add`.
    mutating func sort() {
        entries.sort {
            ($0.start, $0.rank, $0.source, $0.name) < ($1.start, $1.rank, $1.source, $1.name)
        }
        var furthest: UInt64 = 0
        reach = entries.map {
            furthest = max(furthest, $0.isLabel ? $0.start : $0.end)
            return furthest
        }
    }

    /// The symbol that covers `address`.
    func match(_ address: UInt64) -> Match? {
        var position = countNotAbove(address)
        guard position > 0 else { return nil }
        let nearest = firstEqual(to: position - 1)
        while position > 0, reach[position - 1] > address {
            let entry = entries[position - 1]
            guard !entry.isLabel, address < entry.end else {
                position -= 1
                continue
            }
            return match(firstCovering(address, startingLike: position - 1))
        }
        let label = entries[nearest]
        return label.isLabel && address < label.end ? match(nearest) : nil
    }

    private func match(_ index: Int) -> Match? {
        let entry = entries[index]
        let source = sources[Int(entry.source)]
        guard let raw = elf_strptr(source.file.handle, source.strings, Int(entry.name)) else {
            return nil
        }
        return Match(name: Self.withoutVersion(String(cString: raw)), start: entry.start)
    }

    private func countNotAbove(_ address: UInt64) -> Int {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = low + (high - low) / 2
            if entries[middle].start <= address { low = middle + 1 } else { high = middle }
        }
        return low
    }

    private func firstEqual(to index: Int) -> Int {
        var first = index
        while first > 0, entries[first - 1].start == entries[index].start { first -= 1 }
        return first
    }

    private func firstCovering(_ address: UInt64, startingLike index: Int) -> Int {
        (firstEqual(to: index)...index).first {
            !entries[$0].isLabel && address < entries[$0].end
        } ?? index
    }

    /// `malloc@@GLIBC_2.2.5` is `malloc`.
    private static func withoutVersion(_ name: String) -> String {
        guard let at = name.utf8.firstIndex(of: UInt8(ascii: "@")), at > name.utf8.startIndex else {
            return name
        }
        return String(name[..<at])
    }
}
