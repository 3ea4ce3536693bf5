// SPDX-License-Identifier: MIT
import HeapImage

/// Where a process' resident memory is, what of it grew, and what to make of that.
package struct ExplainReport: Equatable, Sendable {
    /// What the numbers say.
    package enum Verdict: String, Sendable {
        /// Live memory grew.
        case leak
        /// Free slots that live ones hold in place.
        case fragmentation
        /// Free memory the heap keeps for reuse.
        case cache
        /// What grew, or is most of it, never came from malloc.
        case notMalloc = "not_malloc"
        /// Most of it is live, and it was not watched.
        case live
        /// Nothing grew.
        case steady
    }

    package var process: ReportedProcess
    package var now: Residency
    /// How it was at the beginning of the window, and how long ago that is.
    package var before: Residency?
    package var windowNanoseconds: UInt64?
    package var usedBytes: UInt64
    /// Tracing is on: what is live can be told by stack.
    package var isTraced: Bool

    package init(
        process: ReportedProcess, now: Residency, before: Residency? = nil,
        windowNanoseconds: UInt64? = nil, usedBytes: UInt64, isTraced: Bool
    ) {
        self.process = process
        self.now = now
        self.before = before
        self.windowNanoseconds = windowNanoseconds
        self.usedBytes = usedBytes
        self.isTraced = isTraced
    }

    /// RSS minus the sum of all parts: what changed while they were read, and what the kernel's
    /// count lags behind.
    package var remainder: Int64 {
        Int64(clamping: now.resident) - Int64(clamping: now.sum)
    }

    package func growth(of part: Residency.Part) -> Int64? {
        before.map { Self.difference(now.bytes[part] ?? 0, $0.bytes[part] ?? 0) }
    }

    package var growth: Int64? { before.map { Self.difference(now.sum, $0.sum) } }

    static func difference(_ now: UInt64, _ before: UInt64) -> Int64 {
        Int64(clamping: now) - Int64(clamping: before)
    }

    /// Groups of what is not the heap's, the largest first.
    package var groups: [(group: Residency.Group, bytes: UInt64, growth: Int64?)] {
        now.groups.sorted {
            ($1.value, $0.key.name, $0.key.part.rawValue)
                < ($0.value, $1.key.name, $1.key.part.rawValue)
        }.map { group, bytes in
            (group, bytes, before.map { Self.difference(bytes, $0.groups[group] ?? 0) })
        }
    }
}

/// The judgement: a few rules on the sums, the first that applies.
extension ExplainReport {
    private typealias Sums = (live: Int64, fragmented: Int64, kept: Int64, other: Int64)

    package var verdict: Verdict {
        guard let before else { return verdictOnShares }
        let grown = sums { Self.difference(now.bytes[$0] ?? 0, before.bytes[$0] ?? 0) }
        // A quarter of a MiB and a thousandth of all come and go in any process.
        let noise = max(256 << 10, Int64(clamping: now.resident / 1000))
        let most = max(grown.live, grown.fragmented, grown.kept, grown.other)
        if most <= noise { return .steady }
        if most == grown.live { return .leak }
        if most == grown.other { return .notMalloc }
        return most == grown.fragmented ? .fragmentation : .cache
    }

    private var verdictOnShares: Verdict {
        let share = sums { Int64(clamping: now.bytes[$0] ?? 0) }
        let heap = share.live + share.fragmented + share.kept
        if share.other > heap { return .notMalloc }
        // A third of the heap's memory held in place is more than sizes that vary explain.
        if share.fragmented * 3 > heap, share.fragmented >= share.kept { return .fragmentation }
        return share.kept * 3 > heap ? .cache : .live
    }

    private func sums(_ value: (Residency.Part) -> Int64) -> Sums {
        var sums: Sums = (0, 0, 0, 0)
        for part in Residency.Part.allCases {
            switch part {
            case .traced, .untraced, .slack: sums.live += value(part)
            case .fragmented: sums.fragmented += value(part)
            case .cached, .free: sums.kept += value(part)
            case .metadata, .region: break
            case .stacks, .modules, .files, .mappings: sums.other += value(part)
            }
        }
        return sums
    }

    /// What else is mapped that grew most, or is largest.
    private var foremost: (group: Residency.Group, bytes: UInt64, growth: Int64?)? {
        before == nil ? groups.first : groups.max { ($0.growth ?? 0) < ($1.growth ?? 0) }
    }

    /// One or two sentences.
    package var sentence: String {
        let seconds = windowNanoseconds.map { " in \(Layout.seconds($0))" } ?? ""
        let live = sums { growth(of: $0) ?? 0 }
        switch verdict {
        case .steady:
            return "steady: nothing grew by more than what comes and goes\(seconds)."
        case .leak:
            let hours = windowNanoseconds.map { Double($0) / 3.6e12 } ?? 1
            let rate = UInt64(max(0, Double(live.live) / max(hours, 1e-9)))
            return "leak: live memory grew by \(Self.signed(live.live))\(seconds), which is"
                + " \(Layout.size(rate)) an hour. If that does not level off, the program keeps"
                + " what it asks for."
        case .fragmentation:
            let bytes = now.bytes[.fragmented] ?? 0
            return "fragmentation: \(Layout.size(bytes)) are free slots that live ones hold in"
                + " place"
                + (before == nil ? "." : ", \(Self.signed(live.fragmented)) more\(seconds).")
                + " They serve requests of the same size."
        case .cache:
            let bytes = (now.bytes[.cached] ?? 0).plus(now.bytes[.free] ?? 0)
            return "cache: \(Layout.size(bytes)) are free and kept for the next requests"
                + (before == nil ? "." : ", \(Self.signed(live.kept)) more\(seconds).")
                + " They go back while the program allocates or frees."
        case .notMalloc:
            let name = foremost.map { Layout.safe(Place.lastPart($0.group.name)) } ?? "?"
            let part = foremost.map { $0.group.part.name } ?? ""
            let amount =
                before == nil
                ? foremost.map { Layout.size($0.bytes) } ?? ""
                : Self.signed(foremost?.growth ?? 0) + " more" + seconds
            return "not malloc: most of it is in \(part) (\(name): \(amount))."
        case .live:
            let bytes = [.traced, .untraced, .slack].reduce(UInt64(0)) {
                $0.plus(now.bytes[$1] ?? 0)
            }
            return "live: \(Layout.size(bytes)) are in use by the program. Whether that is a leak"
                + " only time tells."
        }
    }

    /// The command to type next.
    package var next: String {
        let target = " -p \(process.label)"
        switch verdict {
        case .steady: return "memctl explain --for 10m\(target)"
        case .leak:
            return isTraced ? "memctl show trace\(target)" : "memctl leak-check --for 30s\(target)"
        case .fragmentation: return "memctl show classes\(target)"
        case .cache: return "memctl show memory\(target)"
        case .notMalloc: return "memctl show memory map --all\(target)"
        case .live: return "memctl explain --for 30s\(target)"
        }
    }

    static func signed(_ bytes: Int64) -> String {
        (bytes < 0 ? "-" : "") + Layout.size(bytes.magnitude)
    }
}

extension Residency.Part {
    /// As it stands in text.
    var name: String {
        switch self {
        case .traced: "traced live"
        case .untraced: "untraced live"
        case .slack: "slack"
        case .fragmented: "fragmented"
        case .cached: "cached"
        case .free: "free"
        case .metadata: "metadata"
        case .region: "region"
        case .stacks: "stacks"
        case .modules: "modules"
        case .files: "files"
        case .mappings: "mappings"
        }
    }

    var remark: String {
        switch self {
        case .traced: "asked for, of known stacks"
        case .untraced: "asked for while not traced"
        case .slack: "slots larger than asked for"
        case .fragmented: "free slots beside live ones"
        case .cached: "free, kept for reuse"
        case .free: "slices that go back soon"
        case .metadata: "our own structures"
        case .region: "shared with memctl"
        case .stacks: "of threads"
        case .modules: "executable and libraries"
        case .files: "mapped by the program"
        case .mappings: "by the program, not malloc"
        }
    }
}
