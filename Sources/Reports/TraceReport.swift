// SPDX-License-Identifier: MIT
import HeapImage
import Symbols

/// Live memory by the backtrace that asked for it.
///
/// A plain value: it knows every number and name it shows, and nothing of where they came from.
/// Frames are kept once, as places; a row lists their indexes, innermost first.
package struct TraceReport: Equatable, Sendable {
    package struct Row: Equatable, Sendable {
        package var stack: UInt32
        package var counts: StackCounts
        /// Address of a slot that lives now with this stack; 0: none is known.
        package var sample: UInt64
        /// Indexes into `places`.
        package var frames: [Int32]
        package var isCut: Bool
        package var isStopped: Bool
        package var isOverflow: Bool

        package init(
            stack: UInt32, counts: StackCounts, sample: UInt64 = 0, frames: [Int32],
            isCut: Bool = false, isStopped: Bool = false, isOverflow: Bool = false
        ) {
            self.stack = stack
            self.counts = counts
            self.sample = sample
            self.frames = frames
            self.isCut = isCut
            self.isStopped = isStopped
            self.isOverflow = isOverflow
        }
    }

    package enum Order: String, CaseIterable, Sendable { case bytes, count }

    /// Everything in use in the heap.
    package struct Used: Equatable, Sendable {
        package var bytes: UInt64
        package var count: UInt64

        package init(bytes: UInt64, count: UInt64) {
            self.bytes = bytes
            self.count = count
        }
    }

    /// What could not be given a row of its own, or a whole one.
    package struct Missing: Equatable, Sendable {
        package var overflowStacks: UInt64 = 0
        package var untaggedAllocs: UInt64 = 0
        package var cutStacks: UInt64 = 0
        package var stoppedStacks: UInt64 = 0

        package init() {}

        package init(_ header: RegionHeader) {
            overflowStacks = header.overflowStacks
            untaggedAllocs = header.untaggedAllocs
            cutStacks = header.cutStacks
            stoppedStacks = header.stoppedStacks
        }
    }

    /// Memory that is ours, not the program's.
    package struct Overhead: Equatable, Sendable {
        /// The region file, as far as it occupies memory.
        package var region: UInt64 = 0
        /// Index and tags of the tracing.
        package var tracing: UInt64 = 0
        /// The heap's own structures, tags among them; nil when they could not be read.
        package var heap: UInt64?

        package init() {}
    }

    package var process: ReportedProcess
    package var rows: [Row]
    package var places: [Place]
    /// Rows there are; `rows` may be the first of them.
    package var rowCount: Int
    /// Over all rows, shown or not.
    package var total: StackCounts
    /// nil when the heap could not be read; `usedUnknown` says why.
    package var used: Used?
    package var usedUnknown: String?
    /// Allocations and frees that went on while the numbers were read.
    package var moved: UInt64
    package var missing: Missing
    package var overhead: Overhead
    /// Tracing is on or has been.
    package var wasTraced: Bool

    package init(
        process: ReportedProcess, rows: [Row], places: [Place], rowCount: Int? = nil,
        total: StackCounts, used: Used? = nil, usedUnknown: String? = nil, moved: UInt64 = 0,
        missing: Missing = Missing(), overhead: Overhead = Overhead(), wasTraced: Bool = true
    ) {
        self.process = process
        self.rows = rows
        self.places = places
        self.rowCount = rowCount ?? rows.count
        self.total = total
        self.used = used
        self.usedUnknown = usedUnknown
        self.moved = moved
        self.missing = missing
        self.overhead = overhead
        self.wasTraced = wasTraced
    }

    /// Live memory that no row accounts for.
    package var untraced: Used? {
        used.map {
            Used(bytes: $0.bytes.minus(total.liveUsable), count: $0.count.minus(total.live))
        }
    }
}

extension TraceReport {
    /// `includingZero` keeps rows of which nothing lives any more.
    ///
    /// `name` is asked once a place.
    package init(
        _ snapshot: Snapshot, order: Order = .bytes, limit: Int? = nil, includingZero: Bool = false,
        name: @escaping (UInt64, UInt32) -> [Location]
    ) {
        let table = snapshot.stacks
        let header = snapshot.header
        var builder = RowBuilder(table: table, order: order, name: name)
        builder.choose(limit: limit) { includingZero || $0.live > 0 || $0.liveBytes > 0 }
        var overhead = Overhead()
        if !snapshot.entry.isShared {
            overhead.region = (try? snapshot.entry.file.extent().allocated) ?? 0
        }
        overhead.tracing = header.ownBytes
        var used: Used?
        var usedUnknown: String?
        switch snapshot.heap {
        case .success(let walk):
            used = Used(bytes: walk.usedBytes, count: walk.usedCount)
            overhead.heap = walk.metadataBytes
        case .failure(let error):
            usedUnknown = "\(error)"
        }
        self.init(
            process: ReportedProcess(snapshot.entry),
            rows: builder.rows(samples: snapshot.samples), places: builder.places,
            rowCount: builder.rowCount, total: table.total, used: used, usedUnknown: usedUnknown,
            moved: snapshot.moved, missing: Missing(header), overhead: overhead,
            wasTraced: header.tracedSinceNanoseconds != 0 || header.holdsTrace
                || snapshot.entry.isTraced)
    }
}

extension LeakReport {
    /// The rows of a table that have anything live.
    package init(
        _ entry: RegionEntry, _ table: StackTable, samples: [UInt64], window: Window,
        order: TraceReport.Order, limit: Int?, missing: TraceReport.Missing,
        name: @escaping (UInt64, UInt32) -> [Location]
    ) {
        var builder = RowBuilder(table: table, order: order, name: name)
        builder.choose(limit: limit) { $0.live > 0 }
        self.init(
            window: window,
            trace: TraceReport(
                process: ReportedProcess(entry), rows: builder.rows(samples: samples),
                places: builder.places, rowCount: builder.rowCount, total: table.total,
                missing: missing))
    }
}
