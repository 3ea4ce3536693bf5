// SPDX-License-Identifier: MIT
import ArgumentParser
import HeapImage
import Reports

struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what is in a process' heap.",
        subcommands: [ShowTrace.self, ShowMemory.self, ShowTotal.self])
}

struct ShowTotal: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "total", abstract: "Print the bytes in use, as one number.")

    @OptionGroup var target: TargetOptions

    func run() throws {
        let heap = try Snapshot.heap(of: target.entry()).get()
        Terminal.print("\(heap.usedBytes)")
    }
}

struct ShowMemory: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "memory",
        abstract: "Show where the heap's memory is: by use, class, page, node.")

    @OptionGroup var target: TargetOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let entry = try target.entry()
        let heap = try Snapshot.heap(of: entry).get()
        let traced = (try? StackTable(entry.file, entry.header))?.total ?? StackCounts()
        let sums = PageSums(
            of: AddressSpace.owned(AddressSpace.heapPieces(heap)) { $0 == .metadata ? nil : 0 },
            ownerCount: 1, in: LivePages(pid: entry.pid), withNodes: true)
        let pages = PageStats(sums)
        let report = MemoryReport(entry, heap, traced, pages)
        Terminal.print { text in
            switch output.format {
            case .text: report.writeText(to: &text)
            case .json: report.writeJSON(to: &text)
            }
        }
    }
}
