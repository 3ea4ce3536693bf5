// SPDX-License-Identifier: MIT

import CDw
import Glibc

/// An ELF executable, shared object or separate debug file, read through libelf.
///
/// The file is read, never mapped: a file that is truncated while we look at it then gives a short
/// read, where a mapping would give SIGBUS. Sections are read when first asked for, until
/// `finishReading()` closes the descriptor; what was read by then stays.
final class ElfFile {
    let handle: OpaquePointer
    /// Directory of the file as we see it.
    let home: String
    let identity: OpenFile.Identity?
    /// Empty when the file has none.
    let buildID: [UInt8]
    let loads: [Load]
    private var file: OpenFile?
    private let memory: UnsafeMutableRawBufferPointer?

    /// A PT_LOAD, in the addresses of the file.
    struct Load {
        let start: UInt64
        let end: UInt64
        let isExecutable: Bool
    }

    /// Nil when the file is not an ELF executable, shared object or debug file.
    init?(_ file: OpenFile) {
        guard elf_version(UInt32(EV_CURRENT)) != UInt32(EV_NONE),
            let handle = elf_begin(file.descriptor, ELF_C_READ, nil)
        else { return nil }
        guard Self.isObject(handle) else {
            elf_end(handle)
            return nil
        }
        self.handle = handle
        self.file = file
        memory = nil
        home = linkTarget("/proc/self/fd/\(file.descriptor)").map(directory) ?? "."
        identity = file.identity
        buildID = Self.buildID(of: handle)
        loads = Self.loads(of: handle)
    }

    /// Takes over `memory`, which must have come from `UnsafeMutableRawBufferPointer.allocate`.
    init?(owning memory: UnsafeMutableRawBufferPointer) {
        guard elf_version(UInt32(EV_CURRENT)) != UInt32(EV_NONE),
            let base = memory.bindMemory(to: CChar.self).baseAddress,
            let handle = elf_memory(base, memory.count)
        else {
            memory.deallocate()
            return nil
        }
        guard Self.isObject(handle) else {
            elf_end(handle)
            memory.deallocate()
            return nil
        }
        self.handle = handle
        self.memory = memory
        home = "."
        identity = nil
        buildID = Self.buildID(of: handle)
        loads = Self.loads(of: handle)
    }

    deinit {
        elf_end(handle)
        memory?.deallocate()
    }

    /// From here on only sections that were read already have data.
    func finishReading() {
        guard file != nil else { return }
        elf_cntl(handle, ELF_C_FDDONE)
        file = nil
    }

    private static func isObject(_ handle: OpaquePointer) -> Bool {
        var header = GElf_Ehdr()
        guard elf_kind(handle) == ELF_K_ELF, gelf_getehdr(handle, &header) != nil else {
            return false
        }
        return Int(header.e_type) == Int(ET_EXEC) || Int(header.e_type) == Int(ET_DYN)
    }

    private static func buildID(of handle: OpaquePointer) -> [UInt8] {
        var bits: UnsafeRawPointer?
        let count = dwelf_elf_gnu_build_id(handle, &bits)
        guard let bits, count > 0 else { return [] }
        return Array(UnsafeRawBufferPointer(start: bits, count: count))
    }

    private static func loads(of handle: OpaquePointer) -> [Load] {
        var count = 0
        guard elf_getphdrnum(handle, &count) == 0 else { return [] }
        // A file may claim 2^32 program headers; libelf checks them against its size one by one.
        return (0..<min(count, 4096)).compactMap { index in
            var header = GElf_Phdr()
            guard gelf_getphdr(handle, Int32(index), &header) != nil,
                Int(header.p_type) == Int(PT_LOAD), header.p_memsz > 0
            else { return nil }
            let (end, overflow) = header.p_vaddr.addingReportingOverflow(header.p_memsz)
            return Load(
                start: header.p_vaddr, end: overflow ? .max : end,
                isExecutable: header.p_flags & UInt32(PF_X) != 0)
        }
    }

    func isCode(_ address: UInt64) -> Bool {
        loads.contains { $0.isExecutable && $0.start <= address && address < $0.end }
    }
}

/// A section and its header.
struct ElfSection {
    let handle: OpaquePointer
    let index: Int
    let header: GElf_Shdr
    let name: String
}

extension ElfFile {
    /// Sections in file order, without the empty first one.
    func sections() -> [ElfSection] {
        var names = 0
        guard elf_getshdrstrndx(handle, &names) == 0 else { return [] }
        var found: [ElfSection] = []
        var section = elf_nextscn(handle, nil)
        // A linked file has some dozens; 2^32 of them are possible, and empty.
        while let current = section, found.count < 1 << 16 {
            section = elf_nextscn(handle, current)
            var header = GElf_Shdr()
            guard gelf_getshdr(current, &header) != nil else { continue }
            let name = elf_strptr(handle, names, Int(header.sh_name)).map { String(cString: $0) }
            found.append(
                ElfSection(
                    handle: current, index: elf_ndxscn(current), header: header, name: name ?? ""))
        }
        return found
    }

    func section(named name: String) -> ElfSection? {
        sections().first { $0.name == name }
    }

    /// Contents of a section as stored; nil when it has none or lies outside the file.
    func bytes(of section: ElfSection) -> UnsafeRawBufferPointer? {
        guard Int(section.header.sh_type) != Int(SHT_NOBITS),
            let data = elf_rawdata(section.handle, nil), let start = data.pointee.d_buf
        else { return nil }
        return UnsafeRawBufferPointer(start: start, count: data.pointee.d_size)
    }

    var hasDebugInfo: Bool {
        sections().contains {
            ($0.name == ".debug_info" || $0.name == ".zdebug_info")
                && Int($0.header.sh_type) != Int(SHT_NOBITS)
        }
    }

    /// Name and checksum of the separate debug file.
    var debugLink: (name: String, crc: UInt32)? {
        var crc: UInt32 = 0
        guard let name = dwelf_elf_gnu_debuglink(handle, &crc) else { return nil }
        return (String(cString: name), crc)
    }
}
