// SPDX-License-Identifier: MIT
import ArgumentParser
import HeapImage
import Reports

struct WhatIs: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "whatis", abstract: "Say what addresses of a process are.",
        discussion: """
            A slot of the heap (live or free, whose, asked for where and when), the heap's own, or \
            the mapping they are in. With --refs also who points there: all writable memory is \
            searched, and the registers of all threads, each of which is stopped for that for some \
            microseconds, as by a debugger.
            """)

    @Argument(help: "Addresses, in hexadecimal.") var addresses: [HexAddress]
    @Flag(help: "Search for what points there.") var refs = false
    @OptionGroup var target: TargetOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let report = try AddressQuestion(target.entry()).report(
            addresses.map(\.value), withReferences: refs)
        Terminal.print { text in
            switch output.format {
            case .text: report.writeText(to: &text)
            case .json: report.writeJSON(to: &text)
            }
        }
    }
}

struct HexAddress: ExpressibleByArgument, Equatable {
    var value: UInt64

    init?(argument: String) {
        let digits = argument.hasPrefix("0x") ? argument.dropFirst(2) : argument[...]
        guard let value = UInt64(digits, radix: 16) else { return nil }
        self.value = value
    }
}

/// Everything that is asked of a process to say what an address is.
struct AddressQuestion {
    private let entry: RegionEntry
    private let pid: Int32
    private let memory: LiveProcess
    private let mappings: [Mapping]
    private let threads: ProcessThreads
    private let modules: [ModuleRecord]
    private let table: StackTable?

    init(_ entry: RegionEntry) throws {
        guard let pid = entry.livePid else { throw HeapImageError.gone(pid: entry.pid) }
        self.entry = entry
        self.pid = pid
        memory = LiveProcess(pid: pid)
        mappings = Mapping.all(of: pid) ?? []
        threads = ProcessThreads(of: pid)
        modules = (try? entry.file.modules(entry.header)) ?? []
        // Slots charged before a reset are asked about as well.
        var header = entry.header
        header.floor = 0
        table = entry.isShared ? nil : try? StackTable(entry.file, header)
    }

    func report(_ addresses: [UInt64], withReferences: Bool) throws -> WhatIsReport {
        let walk = try HeapWalk(
            memory, root: entry.header.heapRoot, tracing: entry.header.ownLists)
        var threads = threads
        threads.addStacks(walk.threads)
        let lookup = try AddressLookup(
            memory, root: entry.header.heapRoot, mappings: mappings, threads: threads,
            metadata: walk.metadata, tracing: walk.tracing)
        let names = Names(entry, modules)
        var answers = try addresses.map { address in
            answer(address, try lookup.fact(about: address), names)
        }
        var missing = 0
        if withReferences { missing = try addReferences(to: &answers, lookup, names) }
        names.noteProblems()
        return WhatIsReport(
            process: ReportedProcess(entry), answers: answers, threadsMissing: missing)
    }

    private func answer(_ address: UInt64, _ fact: AddressFact, _ names: Names)
        -> WhatIsReport.Answer
    {
        var answer = WhatIsReport.Answer(address: address, fact: fact)
        guard case .slot(let slot) = fact, let tag = slot.tag else { return answer }
        answer.ageNanoseconds = tag.age(
            now: bootTimeNanoseconds(), since: entry.header.birthsFromNanoseconds)
        answer.places = places(of: tag, names)
        return answer
    }

    private func places(of tag: TagFact, _ names: Names) -> [Place] {
        guard let table, Int(tag.stack) < table.rowOfStack.count else { return [] }
        let row = Int(table.rowOfStack[Int(tag.stack)])
        guard row >= 0 else { return [] }
        return table.frames.path(from: table.rows[row].frame).map { frame in
            let key = table.frames[frame]
            return Place(pc: key.pc, locations: names(key.pc, key.epoch))
        }
    }

    // MARK: References

    /// Returns how many threads could not be asked for their registers.
    private func addReferences(
        to answers: inout [WhatIsReport.Answer], _ lookup: AddressLookup, _ names: Names
    ) throws -> Int {
        let registers = ThreadRegisters(of: threads.threads)
        let library =
            entry.header
            .libraryStart..<max(
                entry.header.libraryStart, entry.header.libraryEnd)
        let total = Layout.size(
            mappings.reduce(0) { $0 + ($1.permissions.hasPrefix("rw") ? $1.size : 0) })
        // Nor are the words of its region anybody's.
        let scanned = mappings.filter { $0.inode == 0 || $0.inode != entry.file.inode }
        let scan = try ReferenceScan(
            memory, in: scanned, targets: answers.map { $0.fact.target(of: $0.address) },
            skipping: lookup.ownRanges + [library], registers: registers.registers
        ) { Terminal.progress("searching: \(Layout.size($0)) of at most \(total)") }
        Terminal.progress("")
        for index in answers.indices {
            answers[index].referenceCount = scan.counts[index]
            answers[index].references = try scan.references.filter { $0.target == index }.map {
                try describe($0, lookup, names)
            }.sorted { ($0.holder, $0.address, $0.what) < ($1.holder, $1.address, $1.what) }
        }
        return registers.missing.count
    }

    private func describe(
        _ reference: ReferenceScan.Reference, _ lookup: AddressLookup, _ names: Names
    ) throws -> WhatIsReport.Reference {
        switch reference.holder {
        case .register(let tid, let name):
            return WhatIsReport.Reference(
                holder: .register, address: 0, value: reference.value,
                what: "register \(name) of thread \(tid)")
        case .memory(let address):
            let (holder, what) = try holder(at: address, lookup, names)
            return WhatIsReport.Reference(
                holder: holder, address: address, value: reference.value, what: what)
        }
    }

    private func holder(
        at address: UInt64, _ lookup: AddressLookup, _ names: Names
    ) throws -> (WhatIsReport.Reference.Holder, String) {
        let fact = try lookup.fact(about: address)
        switch fact {
        case .slot(let slot):
            guard slot.state == .live else { return (.freeSlot, fact.summary) }
            let place = slot.tag.flatMap { places(of: $0, names).first }
            let maker = place.map { ", made by " + ($0.lines.last ?? "") } ?? ""
            return (.slot, fact.summary + maker)
        case .mapping(let mapping, let thread?):
            let isUnused = thread.isUnused(address, of: mapping)
            return (
                isUnused ? .freeSlot : .stack,
                fact.summary + (isUnused ? ", below its stack pointer" : "")
            )
        case .mapping(let mapping, nil):
            // What follows the file's own pages of a module has no name in the kernel's list.
            if let module = modules.first(where: { $0.start <= address && address < $0.end }) {
                let name = Layout.safe(
                    module.path.split(separator: "/").last.map(String.init) ?? "")
                return (.data, "\(name)+\(hex(address - module.bias)), data")
            }
            return (mapping.isFile ? .data : .mapping, fact.summary)
        default: return (.freeSlot, fact.summary)
        }
    }
}
