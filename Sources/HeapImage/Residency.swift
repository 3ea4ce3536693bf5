// SPDX-License-Identifier: MIT
import CRegion

/// A process' resident memory, split by what it is held for.
///
/// Every populated page is counted once. Of a span's pages its live slots get as much as they are
/// large, its free slots the rest; live slots that are larger than what is populated were not
/// touched everywhere: their slack is said to be the part that was not, then what else there is.
package struct Residency: Equatable, Sendable {
    package enum Part: String, CaseIterable, Sendable {
        /// Asked for by the program, by stacks that are known, and not freed.
        case traced
        /// Live slots whose stack is not known.
        case untraced
        /// Of traced slots: behind the bytes asked for.
        case slack
        /// Free slots in spans that have live ones: they can't go back.
        case fragmented
        /// Free slots in spans that have no live one, those that threads keep of each other's, and
        /// large spans kept for the next request.
        case cached
        /// Slices of arenas that are in no span.
        case free
        /// Our own structures: the heap's and the tracing's.
        case metadata
        /// The file shared with memctl.
        case region
        case stacks
        /// Executables and libraries: code and data.
        case modules
        /// Other files.
        case files
        /// Memory the program mapped itself.
        case mappings
    }

    /// What is not the heap's, by name.
    package struct Group: Hashable, Sendable {
        package var part: Part
        package var name: String

        package init(part: Part, name: String) {
            self.part = part
            self.name = name
        }
    }

    /// Bytes, by part.
    package private(set) var bytes: [Part: UInt64] = [:]
    package private(set) var groups: [Group: UInt64] = [:]
    /// VmRSS.
    package var resident: UInt64
    /// Live bytes that have no memory: asked for and never touched, or in swap.
    package private(set) var untouched: UInt64 = 0
    package private(set) var swapped: UInt64 = 0
    /// Of hugetlbfs: no part of RSS.
    package private(set) var hugetlb: UInt64 = 0
    package private(set) var unknownPages: UInt64 = 0
    package private(set) var unknownReason: String?

    package var sum: UInt64 { bytes.values.reduce(0) { $0.plus($1) } }

    /// For values that were not read from a process.
    package init(resident: UInt64, _ bytes: [Part: UInt64], groups: [Group: UInt64] = [:]) {
        self.resident = resident
        self.bytes = bytes
        self.groups = groups
    }

    package init(
        _ walk: HeapWalk, _ surroundings: Surroundings, _ source: some PageSource,
        _ memory: some MemorySource, resident: UInt64
    ) throws(HeapImageError) {
        self.resident = resident
        let space = AddressSpace(
            walk, mappings: surroundings.mappings, isRegion: surroundings.isRegion)
        let charges = try TracedCharges(walk, memory)
        let plan = OwnerPlan(walk, space)
        let sums = PageSums(
            of: space.owned(plan.owner(of:)), ownerCount: plan.count, in: source, withNodes: false)
        unknownReason = sums.unknownReason
        for (owner, tally) in sums.tallies.enumerated() {
            let populated = tally.populated.times(sums.pageSize)
            swapped = swapped.plus(tally.swapped.times(sums.pageSize))
            unknownPages += tally.unknown
            switch plan.use(of: owner) {
            case .span(let index): add(walk.spans[index], charges.bySpan[index], populated)
            case .waiting: add(populated, to: .cached)
            case .free: add(populated, to: .free)
            case .metadata: add(populated, to: .metadata)
            case .region: add(populated, to: .region)
            case .other(let index): add(surroundings.mappings[index], surroundings, populated)
            }
        }
        // Spans count as in use what threads freed of each other's slots and keep.
        let kept = min(walk.cachedBytes, bytes[.untraced] ?? 0)
        bytes[.untraced] = (bytes[.untraced] ?? 0) - kept
        add(kept, to: .cached)
    }

    private mutating func add(_ more: UInt64, to part: Part) {
        guard more > 0 else { return }
        bytes[part, default: 0] = bytes[part, default: 0].plus(more)
    }

    private mutating func add(
        _ span: HeapWalk.Span, _ charge: TracedCharges.Charge, _ populated: UInt64
    ) {
        let live = span.liveBytes
        let traced = min(charge.requested, live)
        var slack = min(charge.usable, live).minus(traced)
        var untraced = live.minus(traced.plus(slack))
        var requested = traced
        // What has no memory is taken off the end of slots first.
        var missing = live.minus(populated)
        untouched = untouched.plus(missing)
        func take(_ from: inout UInt64) {
            let part = min(from, missing)
            from -= part
            missing -= part
        }
        take(&slack)
        take(&untraced)
        take(&requested)
        add(requested, to: .traced)
        add(slack, to: .slack)
        add(untraced, to: .untraced)
        add(populated.minus(live), to: span.live > 0 ? .fragmented : .cached)
    }

    private mutating func add(
        _ mapping: Mapping, _ surroundings: Surroundings, _ populated: UInt64
    ) {
        guard populated > 0 else { return }
        if mapping.isHugetlb {
            hugetlb = hugetlb.plus(populated)
            return
        }
        let group = surroundings.group(of: mapping)
        add(populated, to: group.part)
        groups[group, default: 0] = groups[group, default: 0].plus(populated)
    }

    /// What the kernel and the region say of a process' addresses.
    package struct Surroundings: Sendable {
        package var mappings: [Mapping]
        package var threads: ProcessThreads
        package var modules: [ModuleRecord]
        package var region: (device: UInt64, inode: UInt64)?
        /// Of the preloaded library: code and data.
        package var library: Range<UInt64> = 0..<0

        package init(_ entry: RegionEntry, _ walk: HeapWalk, pid: Int32) {
            mappings = Mapping.all(of: pid) ?? []
            threads = ProcessThreads(of: pid)
            threads.addStacks(walk.threads)
            modules = (try? entry.file.modules(entry.header)) ?? []
            region = (entry.file.device, entry.file.inode)
            let start = entry.header.libraryStart
            library = start..<max(start, entry.header.libraryEnd)
        }

        package init(
            mappings: [Mapping], threads: ProcessThreads = ProcessThreads(),
            modules: [ModuleRecord] = []
        ) {
            self.mappings = mappings
            self.threads = threads
            self.modules = modules
        }

        package func isRegion(_ mapping: Mapping) -> Bool {
            mapping.isShared && mapping.isFile && mapping.inode == region?.inode
                && mapping.offset == 0
        }

        func group(of mapping: Mapping) -> Group {
            if mapping.name == "[stack]" || threads.thread(onStack: mapping) != nil {
                return Group(part: .stacks, name: "stacks of threads")
            }
            // What follows a module's own pages has no name in the kernel's list; where the region
            // does not tell of modules, it is what begins where their data end.
            let start = mapping.range.lowerBound
            if let module = modules.first(where: { $0.start <= start && start < $0.end }),
                mapping.name.isEmpty || mapping.name == module.path
            {
                return Group(part: .modules, name: module.path)
            }
            if mapping.isFile {
                return Group(part: isOfModule(mapping) ? .modules : .files, name: mapping.name)
            }
            if mapping.name.isEmpty, let data = dataBefore(start) {
                return Group(part: .modules, name: data.name)
            }
            return Group(
                part: .mappings, name: mapping.name.isEmpty ? "without a name" : mapping.name)
        }

        /// The mapping that tells whose data go on there without a name.
        private func dataBefore(_ address: UInt64) -> Mapping? {
            // In the middle of our own the region is mapped.
            if library.contains(address) {
                return mappings.first { $0.range.contains(library.lowerBound) }
            }
            let count = mappings.prefixCount { $0.range.upperBound <= address }
            guard count > 0 else { return nil }
            let data = mappings[count - 1]
            return data.range.upperBound == address && data.permissions.hasPrefix("rw")
                && data.isFile && isOfModule(data) ? data : nil
        }

        /// Parts of the file are mapped to be executed.
        private func isOfModule(_ mapping: Mapping) -> Bool {
            mappings.contains {
                $0.inode == mapping.inode && $0.device == mapping.device
                    && $0.permissions.contains("x")
            }
        }
    }
}

/// By span: what its traced slots asked for, and what they take.
private struct TracedCharges {
    struct Charge {
        var requested: UInt64 = 0
        var usable: UInt64 = 0
    }

    private(set) var bySpan: [Charge]

    init(_ walk: HeapWalk, _ memory: some MemorySource) throws(HeapImageError) {
        var charges = [Charge](repeating: Charge(), count: walk.spans.count)
        let order = walk.spans.indices.sorted { walk.spans[$0].base < walk.spans[$1].base }
        var current: Range<UInt64> = 0..<0
        var span = 0
        try walk.forEachTagged(memory) { slot in
            if !current.contains(slot.address) {
                let after = order.prefixCount { walk.spans[$0].base <= slot.address }
                guard after > 0 else { return true }
                span = order[after - 1]
                current = walk.spans[span].range
            }
            charges[span].requested = charges[span].requested.plus(slot.requested)
            charges[span].usable = charges[span].usable.plus(slot.usable)
            return true
        }
        bySpan = charges
    }
}

/// Numbers for the owners of pages: each span, each mapping, and one for each of the rest.
private struct OwnerPlan {
    private let spans: Int
    /// The kernel's own pages are nobody's.
    private let isKernels: [Bool]
    let count: Int

    init(_ walk: HeapWalk, _ space: AddressSpace) {
        spans = walk.spans.count
        isKernels = space.mappings.map(\.isKernels)
        count = 4 + spans + space.mappings.count
    }

    func owner(of use: AddressSpace.Use) -> Int? {
        switch use {
        case .waiting: 0
        case .free: 1
        case .metadata: 2
        case .region: 3
        case .span(let index): 4 + index
        case .other(let index): isKernels[index] ? nil : 4 + spans + index
        }
    }

    func use(of owner: Int) -> AddressSpace.Use {
        switch owner {
        case 0: .waiting(0)
        case 1: .free(arena: 0)
        case 2: .metadata
        case 3: .region
        case ..<(4 + spans): .span(owner - 4)
        default: .other(mapping: owner - 4 - spans)
        }
    }
}
