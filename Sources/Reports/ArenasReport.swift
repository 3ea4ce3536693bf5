// SPDX-License-Identifier: MIT
import HeapImage

/// Where the heap gets its memory from, as ::vmem and ::umastat of libumem show theirs: in use, total,
/// and how often it was asked for.
package struct ArenasReport: Equatable, Sendable {
    package struct Row: Equatable, Sendable {
        package var name: String
        /// Its parts are the rows behind it with this number more of blanks.
        package var depth: Int
        package var inUse: UInt64
        package var total: UInt64
        /// Requests that were met, and that were not; nil where nobody counts.
        package var succeeded: UInt64?
        package var failed: UInt64?

        package init(
            _ name: String, depth: Int = 0, inUse: UInt64, total: UInt64,
            succeeded: UInt64? = nil, failed: UInt64? = nil
        ) {
            self.name = name
            self.depth = depth
            self.inUse = inUse
            self.total = total
            self.succeeded = succeeded
            self.failed = failed
        }

        /// A class, without its spans.
        fileprivate init(_ name: String, _ requests: SlotRequests.Count) {
            self.init(
                name, inUse: 0, total: 0, succeeded: requests.succeeded, failed: requests.failed)
        }

        fileprivate var isUsed: Bool { total > 0 || succeeded ?? 0 > 0 || failed ?? 0 > 0 }

        fileprivate mutating func add(_ span: HeapWalk.Span) {
            inUse = inUse.plus(span.liveBytes)
            total = total.plus(span.size)
        }
    }

    package var process: ReportedProcess
    package var rows: [Row]
    /// What the kernel is asked to back by huge pages; nil: not known.
    package var hugePages: HugePages?

    package init(process: ReportedProcess, rows: [Row], hugePages: HugePages?) {
        self.process = process
        self.rows = rows
        self.hugePages = hugePages
    }

    /// Spans are in use as far as their slots are live; slices as far as spans have them.
    package init(_ process: ReportedProcess, _ walk: HeapWalk) {
        let arenas = walk.arenas.sorted { $0.base < $1.base }
        var held = [UInt64](repeating: 0, count: arenas.count)
        let all = (walk.spans + walk.waiting).sorted { $0.base < $1.base }
        var next = 0
        for span in all where span.kind != .huge {
            while next < arenas.count, arenas[next].range.upperBound <= span.base { next += 1 }
            if next < arenas.count, arenas[next].range.contains(span.base) {
                held[next] = held[next].plus(span.size)
            }
        }
        var rows = [
            Row(
                "slices", inUse: held.reduce(0, +), total: arenas.reduce(0) { $0.plus($1.size) },
                succeeded: walk.slicesTaken, failed: walk.slicesRefused)
        ]
        for (arena, bytes) in zip(arenas, held) {
            rows.append(Row("arena \(hex(arena.base))", depth: 1, inUse: bytes, total: arena.size))
        }
        let huge = walk.spans.filter { $0.kind == .huge }
        let hugeBytes = huge.reduce(UInt64(0)) { $0.plus($1.size) }
        rows.append(
            Row(
                "huge", inUse: huge.reduce(0) { $0.plus($1.liveBytes) }, total: hugeBytes,
                succeeded: walk.mappingsTaken, failed: walk.mappingsRefused))
        rows.append(Row("metadata", inUse: walk.ownBytes, total: walk.ownBytes))
        rows += Self.classes(walk)
        self.init(process: process, rows: rows, hugePages: walk.hugePages)
    }

    private static func classes(_ walk: HeapWalk) -> [Row] {
        var bySize: [UInt64: Row] = [:]
        for size in walk.requests.slotSizes {
            bySize[size] = Row("class \(size)", walk.requests[slotSize: size])
        }
        var large = Row("class large", walk.requests.large)
        var huge = Row("class huge", walk.requests.huge)
        for span in walk.spans + walk.waiting {
            switch span.kind {
            case .large: large.add(span)
            case .huge: huge.add(span)
            case .slots:
                let size = span.slotSize
                bySize[size, default: Row("class \(size)", SlotRequests.Count())].add(span)
            }
        }
        for (size, count) in walk.cachedSlots {
            guard var row = bySize[size] else { continue }
            row.inUse = row.inUse.minus(count.times(size))
            bySize[size] = row
        }
        return bySize.sorted { $0.key < $1.key }.map(\.value) + [large, huge].filter(\.isUsed)
    }

    package func writeText(to output: inout Output) {
        output.write(line: "process \(process.title)\n")
        let header = ["Name", "In use", "Total", "Succeed", "Fail"]
        let cells = rows.map { row in
            [
                String(repeating: "  ", count: row.depth) + row.name, "\(row.inUse)",
                "\(row.total)", row.succeeded.map { "\($0)" } ?? "-",
                row.failed.map { "\($0)" } ?? "-",
            ]
        }
        for line in Layout.table(header, cells, rightAligned: Set(1...4)) {
            output.write(line: line)
        }
        output.write(
            line: "\nsucceed, fail: requests for slices, mappings of huge slots, and slots")
        if let hugePages {
            output.write(line: "huge pages: \(hugePages.rawValue) (MEMCTL_HUGE_PAGES)")
        }
    }

    package func writeJSON(to output: inout Output) {
        process.writeReport(to: &output) { json in
            json.field("huge_pages", hugePages?.rawValue)
            json.objects("arenas", rows) { json, row in
                json.field("name", row.name)
                json.field("depth", row.depth)
                json.field("in_use", row.inUse)
                json.field("total", row.total)
                json.field("succeeded", row.succeeded)
                json.field("failed", row.failed)
            }
        }
    }
}
