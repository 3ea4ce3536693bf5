// SPDX-License-Identifier: MIT
import HeapImage
import Reports

/// Commands to a living process: words stored in its region.
///
/// A forked child that was never traced has none: it shares its parent's. To trace it alone its
/// number is stored beside the armed word there; it makes its region at its next allocation, and
/// clears both. A command for the owner of the page is for all that share it.
enum Steering {
    static func living(_ target: TargetOptions) throws -> RegionEntry {
        let entry = try target.entry()
        guard entry.livePid != nil else { throw TargetError.notAlive(ReportedProcess(entry)) }
        return entry
    }

    /// The region the process is traced in: the one given, or a child's own if it made one in time.
    static func on(
        _ entry: RegionEntry, _ settings: TraceSettings = TraceSettings()
    ) throws -> RegionEntry {
        guard entry.isShared else {
            try armAll(entry, settings)
            return entry
        }
        try armAlone(entry)
        guard let own = try ownRegion(of: entry, within: 1_000_000_000) else { return entry }
        // It may have made its region just before it was armed.
        try disarm(entry, alone: true)
        if settings != TraceSettings() || !own.isTraced { try armAll(own, settings) }
        return own
    }

    static func off(_ entry: RegionEntry) throws {
        guard entry.isShared else {
            try disarm(entry, alone: false)
            return
        }
        if try disarm(entry, alone: true) {
            // It may be making its region at this moment.
            if let own = try ownRegion(of: entry, within: 50_000_000) {
                try disarm(own, alone: false)
            }
        } else if try entry.file.header().isArmedForAll {
            throw SteeringError.sharesTraced(ReportedProcess(entry), owner: entry.owner ?? 0)
        }
    }

    static func reset(_ entry: RegionEntry, depth: Int?) throws {
        guard !entry.isShared else {
            throw SteeringError.nothingToReset(ReportedProcess(entry), owner: entry.owner ?? 0)
        }
        let file = try entry.file.forWriting()
        let header = try file.header()
        if let depth { try file.setDepth(UInt32(depth)) }
        try file.setFloor(header.stacks.count)
        try file.setCommands(header.commands &+ 1)
    }

    // MARK: Words

    private static func armAll(_ entry: RegionEntry, _ settings: TraceSettings) throws {
        let file = try entry.file.forWriting()
        // Depth and interval are there before the first allocation that may ask for them.
        if let depth = settings.depth { try file.setDepth(UInt32(depth)) }
        try file.setSample(settings.interval?.exponent ?? 0)
        try file.setOnlyPid(0)
        try file.setCommands(try file.header().commands &+ 1)
        try file.setArmed(true, maps: settings.maps)
    }

    private static func armAlone(_ entry: RegionEntry) throws {
        let file = try entry.file.forWriting()
        let header = try file.header()
        let inner = entry.innerPid
        guard !header.isArmedForAll, !(header.isArmed && header.onlyPid == inner) else { return }
        if header.isArmed,
            let other = RegionDirectory().sharers(of: [entry]).first(where: {
                $0.innerPid == header.onlyPid
            })
        {
            throw SteeringError.otherWaits(
                ReportedProcess(entry), other: ReportedProcess(other), owner: entry.owner ?? 0)
        }
        // First for whom, so that the parent is not armed for a moment.
        try file.setOnlyPid(inner)
        try file.setCommands(header.commands &+ 1)
        try file.setArmed(true)
    }

    /// `alone`: only if the page is armed for this child and nobody else; tells whether it was.
    @discardableResult
    private static func disarm(_ entry: RegionEntry, alone: Bool) throws -> Bool {
        let file = try entry.file.forWriting()
        let header = try file.header()
        if alone, !header.isArmed || header.onlyPid != entry.innerPid { return false }
        try file.setArmed(false)
        if header.onlyPid != 0 { try file.setOnlyPid(0) }
        try file.setCommands(header.commands &+ 1)
        return true
    }

    /// Waits until a child has a region of its own; nil: not yet.
    private static func ownRegion(
        of entry: RegionEntry, within patience: UInt64
    ) throws -> RegionEntry? {
        guard let pid = entry.livePid else { return nil }
        let end = bootTimeNanoseconds() + patience
        while true {
            let isLast = bootTimeNanoseconds() >= end
            let found = Result { () throws(HeapImageError) in
                try RegionDirectory().entry(livePid: pid)
            }
            switch found {
            case .success(let entry): if !entry.isShared { return entry }
            case .failure(.notRegion), .failure(.notPreloaded):
                // It may be between the old one and the new.
                if isLast { _ = try found.get() }
            case .failure(let error): throw error
            }
            if isLast { return nil }
            Pause.briefly()
        }
    }
}

extension RegionHeader {
    fileprivate var isArmedForAll: Bool { isArmed && onlyPid == 0 }
}

/// Why a child that shares its parent's region can't be steered as was asked.
enum SteeringError: Error, Equatable, CustomStringConvertible {
    case sharesTraced(ReportedProcess, owner: Int32)
    case nothingToReset(ReportedProcess, owner: Int32)
    case otherWaits(ReportedProcess, other: ReportedProcess, owner: Int32)
    case noRegionYet(ReportedProcess)

    var description: String {
        switch self {
        case .sharesTraced(let process, let owner):
            "process \(process.title) shares the region of process \(owner), which is traced, until"
                + " its next allocation — try again after that, or turn process \(owner) off"
        case .nothingToReset(let process, let owner):
            "process \(process.title) has no table of its own, it shares the region of process"
                + " \(owner) — `memctl trace on` makes it one"
        case .otherWaits(let process, let other, let owner):
            "process \(process.title) can't be traced alone before process \(other.title), which"
                + " is to be traced from its next allocation on — try again after that, or trace"
                + " process \(owner) and all its children"
        case .noRegionYet(let process):
            "process \(process.title) did not allocate in a second, and has no region before it does"
                + " — try again when it is busy"
        }
    }
}
