// SPDX-License-Identifier: MIT
import HeapImage

/// Where the memory of a process is: what of it is the heap's and in which state, what is not, and
/// that the sum of it is the resident size.
package struct MemoryReport: Equatable, Sendable {
    /// Bytes of address space, and how many of them have memory behind them.
    package struct Amount: Equatable, Sendable {
        package var bytes: UInt64
        package var populated: UInt64

        package init(_ bytes: UInt64 = 0, populated: UInt64 = 0) {
            self.bytes = bytes
            self.populated = populated
        }

        mutating func add(_ bytes: UInt64, _ populated: UInt64) {
            self.bytes = self.bytes.plus(bytes)
            self.populated = self.populated.plus(populated)
        }
    }

    /// What is not the heap's.
    package enum Other: String, CaseIterable, Sendable {
        case files, shared, stack, anonymous
    }

    package var process: ReportedProcess
    /// Address space held for slots: used + cached + free.
    package var reserved = Amount()
    /// Live slots, in full.
    package var used = Amount()
    package var usedCount: UInt64 = 0
    /// Of traced slots: what is behind the bytes asked for.
    ///
    /// nil when nothing is traced.
    package var tracedSlack: UInt64?
    /// Used bytes whose slack is not known, since they are not traced.
    package var untraced: UInt64 = 0
    /// In spans, and not in live slots.
    package var cached = Amount()
    /// Of `cached`: in spans that are empty, kept by their thread for a moment.
    package var kept: UInt64 = 0
    /// In arenas: slices that belong to no span.
    package var free = Amount()
    /// Of `free`: may still have memory behind it, and goes back to the kernel soon.
    package var purgeable: UInt64 = 0
    package var purged: UInt64 = 0
    /// Our own structures: the heap's and the tracing's.
    package var metadata = Amount()
    package var tags: UInt64 = 0
    /// The region file; its `bytes` are what the file occupies.
    package var region = Amount()
    /// Of `metadata`: the tracing's index, and what it keeps a thread.
    package var tracing: UInt64 = 0
    /// Not the heap's, by Other.
    package var others: [Other: Amount] = [:]
    /// Pages of a hugetlbfs: no part of the resident size.
    package var hugetlb: UInt64 = 0
    /// What the kernel says of the process.
    package var size: ResidentSize?
    package var arenas = 0
    package var threads = 0
    package var classes: [ClassesReport.Row] = []
    /// Of the reserved space.
    package var pages = PageStats()
    /// Spans that kept changing while they were read.
    package var unsettled = 0

    package init(process: ReportedProcess) {
        self.process = process
    }

    package var notMalloc: Amount {
        others.values.reduce(into: Amount()) { $0.add($1.bytes, $1.populated) }
    }

    /// All that was found to have memory.
    package var populatedSum: UInt64 {
        [used, cached, free, metadata, region, notMalloc].reduce(UInt64(0)) {
            $0.plus($1.populated)
        }
    }

    /// What the kernel counts and no row has; less than 0: the other way round.
    package var remainder: Int64? {
        size.map { Int64(clamping: $0.resident) - Int64(clamping: populatedSum) }
    }
}

extension MemoryReport {
    package init(_ entry: RegionEntry, _ reading: MemoryReading, _ traced: StackCounts) {
        self.init(ReportedProcess(entry), reading, traced)
        if !entry.isShared { region.bytes = (try? entry.file.extent().allocated) ?? 0 }
    }

    package init(_ process: ReportedProcess, _ reading: MemoryReading, _ traced: StackCounts) {
        self.init(process: process)
        let walk = reading.walk
        usedCount = walk.usedCount
        tracedSlack = traced.allocs > 0 ? traced.liveUsable.minus(traced.liveBytes) : nil
        kept = walk.spans.filter(\.isKept).reduce(walk.waitingBytes) { $0.plus($1.size) }
        purgeable = walk.arenas.reduce(0) { $0.plus($1.purgeableBytes) }
        purged = walk.purgedBytes
        tags = walk.tagBytes
        arenas = walk.arenas.count
        threads = walk.liveThreads
        unsettled = walk.unsettled
        size = reading.size
        for (index, piece) in reading.space.pieces.enumerated() { add(index, piece, reading) }
        metadata.bytes = walk.ownBytes
        tracing = walk.tracingBytes
        // Spans count slots in threads' caches as live; they were written to when they were freed.
        let inCaches = min(walk.cachedBytes, used.populated)
        used = Amount(used.bytes.minus(walk.cachedBytes), populated: used.populated - inCaches)
        cached.add(walk.cachedBytes, inCaches)
        untraced = used.bytes.minus(traced.liveUsable)
        for amount in [used, cached, free] { reserved.add(amount.bytes, amount.populated) }
        pages = PageStats(reading.sums) { owner in
            switch reading.space.pieces[owner].use {
            case .span, .waiting, .free: true
            default: false
            }
        }
        classes = ClassesReport(process, reading).rows
    }

    private mutating func add(
        _ index: Int, _ piece: AddressSpace.Piece, _ reading: MemoryReading
    ) {
        let size = piece.range.upperBound - piece.range.lowerBound
        let populated = reading.populated(index)
        switch piece.use {
        case .span(let number):
            let live = reading.populatedLive(index)
            let bytes = min(reading.walk.spans[number].liveBytes, size)
            used.add(bytes, live)
            cached.add(size - bytes, populated.minus(live))
        case .waiting: cached.add(size, populated)
        case .free: free.add(size, populated)
        case .metadata: metadata.add(size, populated)
        case .region: region.populated = region.populated.plus(populated)
        case .other(let number):
            if reading.isHugetlb(mapping: number) {
                hugetlb = hugetlb.plus(populated)
            } else {
                others[Other(reading.space.mappings[number]), default: Amount()].add(
                    size, populated)
            }
        }
    }
}

extension MemoryReport.Other {
    package init(_ mapping: Mapping) {
        let isMemory = ["/dev/shm/", "/memfd:", "/SYSV", "/dev/zero"].contains {
            mapping.name.hasPrefix($0)
        }
        if mapping.isShared && isMemory || mapping.name.hasPrefix("[anon_shmem") {
            self = .shared
        } else if mapping.isFile || mapping.name == "[vdso]" {
            self = .files
        } else {
            self = mapping.name == "[stack]" ? .stack : .anonymous
        }
    }

    /// What its row says.
    var note: String {
        switch self {
        case .files: "program, libraries, other files"
        case .shared: "shared memory"
        case .stack: "of the first thread"
        case .anonymous: "threads' stacks, mapped memory"
        }
    }
}
