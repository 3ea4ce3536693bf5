// SPDX-License-Identifier: MIT
import HeapImage

/// Where the memory of a heap is: by use, by class, by page and by node.
package struct MemoryReport: Equatable, Sendable {
    package struct ClassRow: Equatable, Sendable {
        /// Bytes of a slot; 0 for large and huge ones, whose sizes differ.
        package var slotSize: UInt64
        package var kind: HeapWalk.Span.Kind
        package var liveSlots: UInt64 = 0
        package var totalSlots: UInt64 = 0
        package var spans: UInt64 = 0
        /// Of the spans.
        package var bytes: UInt64 = 0
        package var liveBytes: UInt64 = 0

        package init(
            slotSize: UInt64, kind: HeapWalk.Span.Kind, liveSlots: UInt64 = 0,
            totalSlots: UInt64 = 0, spans: UInt64 = 0, bytes: UInt64 = 0, liveBytes: UInt64 = 0
        ) {
            self.slotSize = slotSize
            self.kind = kind
            self.liveSlots = liveSlots
            self.totalSlots = totalSlots
            self.spans = spans
            self.bytes = bytes
            self.liveBytes = liveBytes
        }
    }

    package var process: ReportedProcess
    /// Address space held for slots.
    package var reserved: UInt64
    /// Live slots, in full.
    package var used: UInt64
    package var usedCount: UInt64
    /// Of traced slots: what is behind the bytes asked for.
    ///
    /// nil when nothing is traced.
    package var tracedSlack: UInt64?
    /// Used bytes whose slack is not known, since they are not traced.
    package var untraced: UInt64
    /// In spans: slots that can be handed out without asking the kernel.
    package var cached: UInt64
    /// Of `cached`: in spans that are empty, kept by their thread for a moment.
    package var kept: UInt64
    /// In arenas: slices that belong to no span.
    package var free: UInt64
    /// Of `free`: may still have memory behind it, and goes back to the kernel soon.
    package var purgeable: UInt64
    package var purged: UInt64
    /// The heap's own structures.
    package var metadata: UInt64
    package var tags: UInt64
    /// Index and so on of the tracing, and the region file.
    package var tracing: UInt64
    package var region: UInt64
    package var arenas: Int
    package var threads: Int
    package var classes: [ClassRow]
    package var pages: PageStats
    /// Spans that kept changing while they were read.
    package var unsettled: Int

    package init(
        process: ReportedProcess, reserved: UInt64, used: UInt64, usedCount: UInt64,
        tracedSlack: UInt64?, untraced: UInt64, cached: UInt64, kept: UInt64, free: UInt64,
        purgeable: UInt64, purged: UInt64, metadata: UInt64, tags: UInt64, tracing: UInt64,
        region: UInt64, arenas: Int, threads: Int, classes: [ClassRow], pages: PageStats,
        unsettled: Int = 0
    ) {
        self.process = process
        self.reserved = reserved
        self.used = used
        self.usedCount = usedCount
        self.tracedSlack = tracedSlack
        self.untraced = untraced
        self.cached = cached
        self.kept = kept
        self.free = free
        self.purgeable = purgeable
        self.purged = purged
        self.metadata = metadata
        self.tags = tags
        self.tracing = tracing
        self.region = region
        self.arenas = arenas
        self.threads = threads
        self.classes = classes
        self.pages = pages
        self.unsettled = unsettled
    }
}

extension MemoryReport {
    package init(_ entry: RegionEntry, _ walk: HeapWalk, _ traced: StackCounts, _ pages: PageStats)
    {
        let slots = walk.spans.filter { $0.kind == .slots }
        func sum(_ spans: [HeapWalk.Span], _ value: (HeapWalk.Span) -> UInt64) -> UInt64 {
            spans.reduce(0) { $0.plus(value($1)) }
        }
        let usedSlices = walk.arenas.reduce(UInt64(0)) { $0.plus($1.usedBytes) }
        let arenaBytes = walk.arenas.reduce(UInt64(0)) { $0.plus($1.size) }
        let used = walk.usedBytes
        let isTraced = traced.allocs > 0
        self.init(
            process: ReportedProcess(entry), reserved: walk.reservedBytes, used: used,
            usedCount: walk.usedCount,
            tracedSlack: isTraced ? traced.liveUsable.minus(traced.liveBytes) : nil,
            untraced: used.minus(traced.liveUsable),
            cached: sum(slots) { UInt64($0.slotCount - $0.live).times($0.slotSize) }
                .plus(walk.waitingBytes).plus(walk.cachedBytes),
            kept: sum(slots.filter(\.isKept)) { $0.size }.plus(walk.waitingBytes),
            free: arenaBytes.minus(usedSlices),
            purgeable: walk.arenas.reduce(0) { $0.plus($1.purgeableBytes) },
            purged: walk.purgedBytes, metadata: walk.metadataBytes, tags: walk.tagBytes,
            tracing: entry.header.ownBytes,
            region: entry.isShared ? 0 : (try? entry.file.extent().allocated) ?? 0,
            arenas: walk.arenas.count, threads: walk.liveThreads,
            classes: Self.classes(walk), pages: pages, unsettled: walk.unsettled)
    }

    private static func classes(_ walk: HeapWalk) -> [ClassRow] {
        var bySize: [UInt64: ClassRow] = [:]
        var large = ClassRow(slotSize: 0, kind: .large)
        var huge = ClassRow(slotSize: 0, kind: .huge)
        for span in walk.spans {
            switch span.kind {
            case .slots:
                bySize[span.slotSize, default: ClassRow(slotSize: span.slotSize, kind: .slots)]
                    .add(span)
            case .large: large.add(span)
            case .huge: huge.add(span)
            }
        }
        for (size, count) in walk.cachedSlots {
            guard var row = bySize[size] else { continue }
            row.liveSlots = row.liveSlots.minus(count)
            row.liveBytes = row.liveBytes.minus(count.times(size))
            bySize[size] = row
        }
        return bySize.values.sorted { $0.slotSize < $1.slotSize }
            + [large, huge].filter { $0.spans > 0 }
    }
}

extension MemoryReport.ClassRow {
    fileprivate mutating func add(_ span: HeapWalk.Span) {
        liveSlots += UInt64(span.live)
        totalSlots += UInt64(span.slotCount)
        spans += 1
        bytes = bytes.plus(span.size)
        liveBytes = liveBytes.plus(span.liveBytes)
    }

    var label: String {
        switch kind {
        case .slots: "\(slotSize)"
        case .large: "large"
        case .huge: "huge"
        }
    }
}
