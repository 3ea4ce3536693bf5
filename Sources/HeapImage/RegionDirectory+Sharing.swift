// SPDX-License-Identifier: MIT

/// Forked children that share their parent's region.
///
/// A child that was never traced has no region of its own: it still maps its parent's. It makes one
/// at its first allocation after it was armed, by a command for it alone (`only_pid`) or for all
/// that share the page.
extension RegionDirectory {
    /// A process that maps a region, which is its own or its parent's.
    static func entry(
        _ file: RegionFile, of status: ProcessStatus
    ) throws(HeapImageError) -> RegionEntry {
        let header = try file.header()
        let isOwn = header.pid == status.innerPid && Census.mayCount(header, pid: status.pid)
        var entry = RegionEntry(
            file: file, header: header, state: .dead, root: "", generation: 0)
        entry.live(as: status.pid, root: root(of: status.pid))
        if !isOwn {
            var census = Census()
            entry.share(with: census.owner(of: entry) ?? header.pid)
        }
        return entry
    }

    /// The living processes that have no region but share one of these.
    ///
    /// Only those that run a program of one of them are looked into.
    package func sharers(of entries: [RegionEntry]) -> [RegionEntry] {
        var executables = Set(entries.map(\.header.executable))
        for pid in entries.compactMap(\.livePid) {
            if let link = Descriptor.link(at: "/proc/\(pid)/exe") { executables.insert(link) }
        }
        let owners = Set(entries.compactMap(\.livePid))
        var found: [RegionEntry] = []
        for pid in ProcessStatus.pids() where !owners.contains(pid) {
            guard let link = Descriptor.link(at: "/proc/\(pid)/exe"),
                executables.contains(link.withoutDeleted),
                let status = ProcessStatus(pid: pid), !status.isEnding,
                let mappings = FileMapping.shared(of: pid),
                let mapped = entries.first(where: { entry in
                    mappings.contains { $0.isOf(entry.file) }
                }), var entry = try? Self.entry(mapped.file, of: status), entry.isShared
            else { continue }
            entry.owner = mapped.pid
            entry.file.rest()
            found.append(entry)
        }
        return found
    }
}

extension RegionEntry {
    /// Its header as it is now.
    package func currentHeader() throws(HeapImageError) -> RegionHeader {
        let header = try file.header()
        return isShared ? header.withoutRecords : header
    }

    /// The number its process has in its own pid namespace.
    package var innerPid: Int32 {
        guard isShared, let livePid else { return header.pid }
        return ProcessStatus(pid: livePid)?.innerPid ?? livePid
    }

    /// Tells whether its process' next allocation is traced.
    package var isTraced: Bool {
        header.isArmed && (header.onlyPid == 0 || header.onlyPid == innerPid)
    }

    fileprivate mutating func share(with owner: Int32) {
        self.owner = owner
        header = header.withoutRecords
    }
}

extension RegionHeader {
    /// What a sharing child has of a region: the control words, and where the heap is.
    ///
    /// The records are its parent's.
    fileprivate var withoutRecords: RegionHeader {
        var header = self
        let none = Area(offset: 0, recordSize: 0, capacity: 0, count: 0)
        (header.modules, header.strings, header.frames) = (none, none, none)
        (header.stacks, header.counters, header.samples) = (none, none, none)
        (header.common, header.places) = (none, none)
        (header.overflowStacks, header.untaggedAllocs) = (0, 0)
        (header.cutStacks, header.stoppedStacks) = (0, 0)
        (header.ownBytes, header.trailBytes) = (0, 0)
        header.tracedSinceNanoseconds = 0
        return header
    }
}
