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
        /// Mappings, not objects of the heap.
        package var isMapped = false
        /// Its allocations are charged to its parts from now on.
        package var isDeepened = false
        /// Of a deeper backtrace: the row above that it is a part of, and is counted in.
        package var partOf: UInt32?
        /// Of a sampled row: how sure its numbers are.
        package var estimate: Estimate?
        /// Bytes of free slots that can't be given back because of its slots; nil: not counted.
        package var pinned: UInt64?

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

    package enum Order: String, CaseIterable, Sendable {
        case bytes, count, allocs, temporary, waste

        /// The larger comes first.
        package func keys(_ counts: StackCounts) -> (first: UInt64, second: UInt64) {
            switch self {
            case .bytes: (counts.liveBytes, counts.live)
            case .count: (counts.live, counts.liveBytes)
            case .allocs: (counts.allocs, counts.liveBytes)
            case .temporary: (counts.temporary, counts.liveBytes)
            case .waste: (counts.waste, counts.liveBytes)
            }
        }
    }

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
        package var misplacedFrees: UInt64 = 0
        package var missedMaps: UInt64 = 0

        package init() {}

        package init(_ header: RegionHeader) {
            overflowStacks = header.overflowStacks
            untaggedAllocs = header.untaggedAllocs
            cutStacks = header.cutStacks
            stoppedStacks = header.stoppedStacks
            misplacedFrees = header.misplacedFrees
            missedMaps = header.missedMaps
        }
    }

    /// Memory that is ours, not the program's.
    package struct Overhead: Equatable, Sendable {
        /// The region file, as far as it occupies memory.
        package var region: UInt64 = 0
        /// Its index, the trails of threads and its table of mappings.
        package var tracing: UInt64 = 0
        /// Of that, the trails: what threads keep of their last backtraces.
        package var trails: UInt64 = 0
        /// The heap's own structures, tags among them; nil when they could not be read.
        package var heap: UInt64?
        /// What the region and the index take, a stack, but not the trails; nil: there are too few to
        /// tell.
        package var bytesPerStack: UInt64?
        /// Of these, what the frames themselves are, of which stacks share their outer ones; nil likewise.
        package var frameBytesPerStack: UInt64?
        /// Bytes of tags for ten live traced objects; nil likewise.
        package var bytesPerTenObjects: UInt64?

        package init() {}
    }

    /// What sampling estimates.
    package struct Sampled: Equatable, Sendable {
        package var counts: StackCounts
        package var estimate: Estimate

        package init(counts: StackCounts, estimate: Estimate) {
            self.counts = counts
            self.estimate = estimate
        }
    }

    package var process: ReportedProcess
    package var rows: [Row]
    package var places: [Place]
    /// Rows there are, without parts; `rows` may be the first of them.
    package var rowCount: Int
    /// Over all rows of the heap's objects that were counted one by one, shown or not.
    package var total: StackCounts
    /// Over all sampled rows.
    package var sampled: Sampled?
    /// Over all rows of mappings.
    package var mapped = StackCounts()
    /// Which of the live slots the rows are of; nil: all.
    package var filter: String?
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
    ///
    /// nil where a part of it is estimated.
    package var untraced: Used? {
        if sampled != nil { return nil }
        return used.map {
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
        pinned: [UInt64]? = nil, name: @escaping (UInt64, UInt32) -> [Location]
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
        overhead.trails = header.trailBytes
        overhead.divide(snapshot)
        var used: Used?
        var usedUnknown: String?
        switch snapshot.heap {
        case .success(let walk):
            used = Used(bytes: walk.usedBytes, count: walk.usedCount)
            overhead.heap = walk.metadataBytes
        case .failure(.gone(let pid)):
            usedUnknown = "process \(pid) has ended, and its heap with it"
        case .failure(let error):
            usedUnknown = "\(error)"
        }
        self.init(
            process: ReportedProcess(snapshot.entry),
            rows: builder.rows(samples: snapshot.samples, pinned: pinned), places: builder.places,
            rowCount: builder.rowCount, total: table.total, used: used, usedUnknown: usedUnknown,
            moved: snapshot.moved, missing: Missing(header), overhead: overhead,
            wasTraced: header.tracedSinceNanoseconds != 0 || header.holdsTrace
                || snapshot.entry.isTraced)
        sampled = table.sampled.map { Sampled(counts: $0.counts, estimate: $0.estimate) }
        mapped = table.mapped
    }

    /// Of the slots that a filter found.
    package init(
        _ entry: RegionEntry, _ table: StackTable, samples: [UInt64], filter: String,
        order: Order, limit: Int?, missing: Missing, name: @escaping (UInt64, UInt32) -> [Location]
    ) {
        var builder = RowBuilder(table: table, order: order, name: name)
        builder.choose(limit: limit) { $0.live > 0 }
        self.init(
            process: ReportedProcess(entry), rows: builder.rows(samples: samples),
            places: builder.places, rowCount: builder.rowCount, total: table.total, missing: missing
        )
        sampled = table.sampled.map { Sampled(counts: $0.counts, estimate: $0.estimate) }
        self.filter = filter
    }
}

extension TraceReport.Overhead {
    /// Fewer say more about the size of a page.
    private static let enough: UInt64 = 100

    fileprivate mutating func divide(_ snapshot: Snapshot) {
        let stacks = snapshot.header.stackCount
        if stacks >= Self.enough {
            let frames = snapshot.header.frames
            bytesPerStack = region.plus(tracing.minus(trails)) / stacks
            frameBytesPerStack = frames.count.times(frames.recordSize) / stacks
        }
        let live = snapshot.stacks.total.live
        if live >= Self.enough, snapshot.stacks.sampled == nil,
            case .success(let walk) = snapshot.heap
        {
            bytesPerTenObjects = walk.tagBytes.times(10) / live
        }
    }
}

extension LeakReport {
    /// The rows of a table that have anything live.
    package init(
        _ entry: RegionEntry, _ table: StackTable, samples: [UInt64], window: Window,
        order: TraceReport.Order, limit: Int?, missing: TraceReport.Missing,
        name: @escaping (UInt64, UInt32) -> [Location]
    ) {
        self.init(
            window: window,
            trace: TraceReport(
                entry, table, samples: samples, filter: "", order: order, limit: limit,
                missing: missing, name: name))
    }
}
