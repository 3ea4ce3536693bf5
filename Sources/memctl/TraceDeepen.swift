// SPDX-License-Identifier: MIT
import ArgumentParser
import HeapImage
import Reports

struct TraceDeepen: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "deepen",
        abstract: "Split rows of shallow backtraces by who calls them, from now on.",
        usage:
            "memctl trace deepen <id> ... [--depth <n>]\nmemctl trace deepen --leakers [--depth <n>]",
        discussion: """
            For a process traced with a small --depth. Allocations of the rows named are charged to \
            parts with deeper backtraces; the row goes on to show the sum. The ids are those of \
            `show trace --ids`.
            """)

    @OptionGroup var target: TargetOptions
    @Option(help: "Frames to keep of each part, 1 to 256 (default: 64).") var depth: Int?
    @Flag(help: "The rows that hold most of what is live, and give little of it back.")
    var leakers = false
    @Argument(help: "Rows, by their ids.") var ids: [UInt32] = []

    func validate() throws {
        if ids.isEmpty == !leakers { throw ValidationError("give either ids or --leakers") }
        if let depth, !(1...256).contains(depth) {
            throw ValidationError("--depth must be from 1 to 256")
        }
    }

    func run() throws {
        let entry = try Steering.living(target)
        let deepened = try Deepening(entry).deepen(
            leakers ? nil : ids, depth: depth.map { UInt32($0) })
        let list = deepened.map { String($0) }.joined(separator: ", ")
        Terminal.print(
            "trace deepen: process \(ReportedProcess(entry).title): "
                + (deepened.isEmpty ? "no row leaks" : list))
    }
}

struct TraceUndeepen: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "undeepen", abstract: "Charge allocations to whole rows again.",
        usage: "memctl trace undeepen <id> ...\nmemctl trace undeepen --all")

    @OptionGroup var target: TargetOptions
    @Flag(help: "Every row that is deepened.") var all = false
    @Argument(help: "Rows, by their ids.") var ids: [UInt32] = []

    func validate() throws {
        if ids.isEmpty == !all { throw ValidationError("give either ids or --all") }
    }

    func run() throws {
        let entry = try Steering.living(target)
        let count = UInt64(try Deepening(entry).undeepen(all ? nil : ids))
        Terminal.print(
            "trace undeepen: process \(ReportedProcess(entry).title): "
                + Layout.count(count, "row", "rows"))
    }
}

/// Which rows of a process' table are split by deeper backtraces: flags of its stacks.
struct Deepening {
    private let entry: RegionEntry
    private let file: RegionFile
    private let header: RegionHeader
    private let table: StackTable

    init(_ entry: RegionEntry) throws {
        guard !entry.isShared else {
            throw SteeringError.nothingToReset(ReportedProcess(entry), owner: entry.owner ?? 0)
        }
        self.entry = entry
        file = try entry.file.forWriting()
        header = try file.header()
        table = try StackTable(file, header)
    }

    /// nil: the rows that leak.
    ///
    /// Returns the ids of the rows.
    func deepen(_ ids: [UInt32]?, depth: UInt32?) throws -> [UInt32] {
        let rows = try ids?.map { try row($0, mustBeCut: true) } ?? leakers
        for row in rows { try set(row, true) }
        if let depth {
            try file.setDeepen(depth)
        } else if header.deepen == 0, !rows.isEmpty {
            try file.setDeepen(Self.usualDepth)
        }
        try file.setCommands(header.commands &+ 1)
        return rows.map { table.rows[$0].stack }
    }

    /// nil: all.
    ///
    /// Returns how many there were.
    func undeepen(_ ids: [UInt32]?) throws -> Int {
        let deepened = table.rows.indices.filter { table.rows[$0].isDeepened }
        let wanted = try ids?.map { try row($0, mustBeCut: false) } ?? deepened
        let rows = wanted.filter { table.rows[$0].isDeepened }
        for row in rows { try set(row, false) }
        if Set(rows) == Set(deepened) { try file.setDeepen(0) }
        try file.setCommands(header.commands &+ 1)
        return rows.count
    }

    private static let usualDepth: UInt32 = 64

    private func row(_ id: UInt32, mustBeCut: Bool) throws -> Int {
        guard Int(id) < table.rowOfStack.count, table.rowOfStack[Int(id)] >= 0 else {
            throw DeepeningError.noRow(id)
        }
        let index = Int(table.rowOfStack[Int(id)])
        let row = table.rows[index]
        if row.parent != nil { throw DeepeningError.isPart(id) }
        if mustBeCut, !row.isCut { throw DeepeningError.isWhole(id) }
        return index
    }

    private func set(_ row: Int, _ isDeepened: Bool) throws {
        for stack in table.stacks(inRow: row) {
            try file.setDeepened(isDeepened, stack: stack, header)
        }
    }

    /// Rows with at least a hundredth of what is live, of which no more than a half was ever freed.
    private var leakers: [Int] {
        let least = table.total.liveBytes.plus(table.sampled?.counts.liveBytes ?? 0) / 100
        return table.rows.indices.filter { index in
            let row = table.rows[index]
            let counts = row.counts
            return row.isCut && row.parent == nil && !row.isMapped && counts.live > 0
                && counts.liveBytes >= least && counts.live >= counts.frees
        }
    }
}

/// Why a row can't be split.
enum DeepeningError: Error, Equatable, CustomStringConvertible {
    case noRow(UInt32)
    case isPart(UInt32)
    case isWhole(UInt32)

    var description: String {
        switch self {
        case .noRow(let id):
            "there is no row \(id) — `memctl show trace --ids` shows which there are"
        case .isPart(let id):
            "row \(id) is a part of a deepened row itself — `trace deepen --depth N` keeps more frames"
        case .isWhole(let id):
            "row \(id) has all its frames already: there is nothing to deepen"
        }
    }
}
