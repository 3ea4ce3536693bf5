// SPDX-License-Identifier: MIT

import CDw
import Glibc

/// All that is known of one module's names: its file, its separate debug file, its symbols.
///
/// A file is used only if its build-id is the one that was recorded. Where the file at the recorded
/// path is gone or was replaced, the running process still holds the right one: /proc shows it.
final class ObjectFile {
    private var symbols = SymbolTable()
    private var debug: DebugInfo?
    private var debugShift: UInt64 = 0
    private let path: String
    private var reportedWork = false

    /// Where to look, besides the recorded path.
    struct Surroundings {
        let root: String
        let processID: Int32?
        let search: DebugFileSearch
    }

    init(_ module: Module, _ surroundings: Surroundings, problem: (String) -> Void) {
        path = module.path
        var failure: String?
        let main = Self.mainFile(of: module, surroundings, &failure)
        let search = surroundings.search
        var separate: ElfFile?
        if let main {
            if !main.hasDebugInfo { separate = search.debugFile(of: main, path: module.path) }
        } else {
            separate = search.file(buildID: module.buildID)
        }
        if main == nil, separate == nil, let failure {
            problem(
                "\(module.path): \(failure) — install the file, or the debug file, "
                    + "of build-id \(Self.hexadecimal(module.buildID))")
        }
        for file in [main, separate].compactMap({ $0 }) {
            let shift = Self.shift(from: file, to: main)
            symbols.add(file, shift: shift)
        }
        if let main, separate == nil, let mini = main.miniDebugInfo() { symbols.add(mini) }
        symbols.sort()
        if let file = separate ?? main, file.hasDebugInfo {
            debugShift = Self.shift(from: file, to: main)
            let layout = file.loads.isEmpty ? main ?? file : file
            debug = DebugInfo(file, search: search, isCode: { layout.isCode($0) })
            if debug == nil {
                problem("\(module.path): debug information is damaged — its lines are not shown")
            }
        }
        main?.finishReading()
        separate?.finishReading()
    }

    /// What addresses of `file` must be raised by to be those of `main`.
    private static func shift(from file: ElfFile, to main: ElfFile?) -> UInt64 {
        guard let there = file.loads.first, let here = main?.loads.first else { return 0 }
        return here.start &- there.start
    }

    /// Functions at an address of the file, innermost first; empty when nothing is known.
    func frames(at address: UInt64, problem: (String) -> Void) -> [DebugInfo.Frame] {
        var frames = debug?.frames(at: address &- debugShift) ?? []
        for index in frames.indices where !frames[index].isInlined {
            frames[index].start &+= debugShift
        }
        if let debug, debug.gaveUp, !reportedWork {
            reportedWork = true
            problem("\(path): debug information is damaged — not all of it was read")
        }
        return named(frames, at: address)
    }

    /// The outermost name is the symbol table's where DWARF has none, or only a bare one for what
    /// the symbol table calls by its mangled name.
    private func named(_ frames: [DebugInfo.Frame], at address: UInt64) -> [DebugInfo.Frame] {
        let outermost = frames.last
        if let name = outermost?.function, name.isComplete { return frames }
        guard let symbol = symbols.match(address) else { return frames }
        let name = demangle(symbol.name)
        if let frame = outermost, frame.function != nil,
            name == symbol.name || frame.start != symbol.start
        {
            return frames
        }
        var frames = frames
        if frames.isEmpty { frames = [DebugInfo.Frame(start: 0, isInlined: false)] }
        frames[frames.count - 1].function = FunctionNames.Name(text: name, isComplete: true)
        frames[frames.count - 1].start = symbol.start
        return frames
    }
}

// MARK: - The file a module was loaded from

extension ObjectFile {
    private static func mainFile(
        of module: Module, _ surroundings: Surroundings, _ failure: inout String?
    ) -> ElfFile? {
        if ["[vdso]", "linux-vdso.so.1", "linux-gate.so.1"].contains(module.path) {
            return vdso(buildID: module.buildID)
        }
        let deleted = " (deleted)"
        let isDeleted = module.path.hasSuffix(deleted)
        let path = isDeleted ? String(module.path.dropLast(deleted.count)) : module.path
        // A file that took the place of a deleted one is another one, unless its build-id says no.
        if !isDeleted || !module.buildID.isEmpty {
            for root in surroundings.root.isEmpty ? [""] : [surroundings.root, ""] {
                // Without a build-id only the process' own view of the path counts.
                if root != surroundings.root, module.buildID.isEmpty { continue }
                do throws(OpenFile.Failure) {
                    let file = try OpenFile(path, root: root)
                    guard let elf = ElfFile(file) else {
                        failure = "not an ELF file"
                        continue
                    }
                    if module.buildID.isEmpty || elf.buildID == module.buildID { return elf }
                    failure = "the file was replaced since it was loaded"
                } catch {
                    if failure == nil { failure = error.reason }
                }
            }
        }
        if let held = heldFile(of: module, path: path, surroundings.processID) { return held }
        if isDeleted, failure == nil { failure = "the file was deleted" }
        return nil
    }

    private static func hexadecimal(_ bytes: [UInt8]) -> String {
        bytes.isEmpty
            ? "(none recorded)"
            : bytes.map { String(UInt16($0) + 0x100, radix: 16).dropFirst() }.joined()
    }

    /// The file as the process has it mapped, whatever became of its name.
    private static func heldFile(of module: Module, path: String, _ processID: Int32?) -> ElfFile? {
        guard let processID else { return nil }
        let maps = "/proc/\(processID)/map_files/"
        var candidates = ["/proc/\(processID)/exe"]
        for entry in directoryEntries(maps) {
            guard let dash = entry.firstIndex(of: "-"),
                let start = UInt64(entry[..<dash], radix: 16),
                module.start <= start, start < module.end
            else { continue }
            candidates.append(maps + entry)
        }
        for candidate in candidates {
            let target = linkTarget(candidate)
            let isNamed = target == path || target == path + " (deleted)"
            guard isNamed || !module.buildID.isEmpty, let file = try? OpenFile(candidate, root: ""),
                let elf = ElfFile(file)
            else { continue }
            if module.buildID.isEmpty || elf.buildID == module.buildID { return elf }
        }
        return nil
    }

    /// The kernel gives every process the same one, ours included; after a restart with another
    /// kernel the build-ids differ.
    private static func vdso(buildID: [UInt8]) -> ElfFile? {
        let sectionTable = 0x28
        let sectionSize = 0x3a
        let sectionCount = 0x3c
        guard !buildID.isEmpty,
            let start = UnsafeRawPointer(bitPattern: getauxval(UInt(AT_SYSINFO_EHDR)))
        else { return nil }
        let size =
            Int(start.load(fromByteOffset: sectionTable, as: UInt64.self))
            + Int(start.load(fromByteOffset: sectionSize, as: UInt16.self))
            * Int(start.load(fromByteOffset: sectionCount, as: UInt16.self))
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 16)
        copy.copyMemory(from: UnsafeRawBufferPointer(start: start, count: size))
        guard let elf = ElfFile(owning: copy), elf.buildID == buildID else { return nil }
        return elf
    }
}
