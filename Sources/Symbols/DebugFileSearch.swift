// SPDX-License-Identifier: MIT

import CDw

/// Finds the files debug information was moved to.
///
/// They are looked for by build-id below the debug directories, then by the name a `.gnu_debuglink`
/// section gives, then on the servers the user names, if any. Only files proven to belong together are used: by an
/// equal build-id, or where there is none by the checksum in the link.
struct DebugFileSearch {
    let root: String
    let directories: [String]
    let servers: Debuginfod?

    /// Debug files of a container may be inside it or installed beside the tool.
    private var roots: [String] { root.isEmpty ? [""] : [root, ""] }

    private func open(_ path: String, root: String) -> (OpenFile, ElfFile)? {
        guard let file = try? OpenFile(path, root: root), let elf = ElfFile(file) else {
            return nil
        }
        return (file, elf)
    }

    /// The file of a build-id, wherever it is.
    func file(buildID: [UInt8]) -> ElfFile? {
        installedFile(buildID: buildID) ?? downloadedFile(buildID: buildID)
    }

    private func downloadedFile(buildID: [UInt8]) -> ElfFile? {
        guard Self.isUsable(buildID), let path = servers?.debugFile(buildID: buildID),
            let (_, elf) = open(path, root: ""), elf.buildID == buildID
        else { return nil }
        return elf
    }

    private static func isUsable(_ buildID: [UInt8]) -> Bool {
        buildID.count >= 2 && buildID.count <= 64
    }

    /// `.build-id/ab/cdef….debug` below one of the debug directories.
    private func installedFile(buildID: [UInt8]) -> ElfFile? {
        guard Self.isUsable(buildID) else { return nil }
        let digits = buildID.map { String(UInt16($0) + 0x100, radix: 16).dropFirst() }
        let name = "/.build-id/\(digits[0])/\(digits.dropFirst().joined()).debug"
        for root in roots {
            for directory in directories {
                if let (_, elf) = open(directory + name, root: root), elf.buildID == buildID {
                    return elf
                }
            }
        }
        return nil
    }

    /// The separate debug file of `main`, which was recorded as `path`.
    func debugFile(of main: ElfFile, path: String) -> ElfFile? {
        if let found = installedFile(buildID: main.buildID), found.identity != main.identity {
            return found
        }
        return linkedFile(of: main, path: path) ?? downloadedFile(buildID: main.buildID)
    }

    private func linkedFile(of main: ElfFile, path: String) -> ElfFile? {
        guard let link = main.debugLink, !link.name.isEmpty, !link.name.contains("/") else {
            return nil
        }
        let home = directory(of: path)
        let places = [home, home + "/.debug"] + directories.map { $0 + home }
        for root in roots {
            for place in places {
                guard let (file, elf) = open("\(place)/\(link.name)", root: root),
                    elf.identity != main.identity
                else { continue }
                let isOurs =
                    main.buildID.isEmpty
                    ? file.crc32() == link.crc : elf.buildID == main.buildID
                if isOurs { return elf }
            }
        }
        return nil
    }
}

/// What dwz moved out of several debug files into one they share.
final class AlternateDebugInfo {
    let file: ElfFile
    let handle: OpaquePointer

    init?(_ file: ElfFile) {
        guard let handle = dwarf_begin_elf(file.handle, DWARF_C_READ, nil) else { return nil }
        self.file = file
        self.handle = handle
        file.finishReading()
    }

    deinit { dwarf_end(handle) }
}

extension DebugFileSearch {
    /// Gives `dwarf` the shared file it refers to, if it does and the file is found.
    ///
    /// False when
    /// libdw, which goes on searching by itself, would open something that is no file.
    func attachAlternate(
        to dwarf: OpaquePointer, of file: ElfFile, _ alternate: inout AlternateDebugInfo?
    ) -> Bool {
        var name: UnsafePointer<CChar>?
        var bits: UnsafeRawPointer?
        let count = dwelf_dwarf_gnu_debugaltlink(dwarf, &name, &bits)
        guard count > 0, let name, let bits else { return true }
        let buildID = Array(UnsafeRawBufferPointer(start: bits, count: count))
        var path = String(cString: name)
        if !path.hasPrefix("/") { path = file.home + "/" + path }
        var found = self.file(buildID: buildID)
        for root in roots where found == nil {
            if let (_, elf) = open(path, root: root), elf.buildID == buildID { found = elf }
        }
        if let found, let opened = AlternateDebugInfo(found) {
            dwarf_setalt(dwarf, opened.handle)
            alternate = opened
            return true
        }
        do {
            _ = try OpenFile(path, root: "")
        } catch .notRegular {
            return false
        } catch {}
        return true
    }
}
