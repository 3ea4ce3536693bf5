// SPDX-License-Identifier: MIT
import CRegion

/// The first page of a region, as Swift values: who the process is, the control words, the answers
/// and where the areas lie.
///
/// Every number in it is the process' word only.
package struct RegionHeader: Equatable, Sendable {
    package struct Area: Equatable, Sendable {
        package var offset: UInt64
        package var recordSize: UInt64
        package var capacity: UInt64
        package var count: UInt64
    }

    package enum Ending: Sendable {
        /// Lives, or was killed.
        case none
        /// A normal end, with the wish that the trace stays.
        case kept
        /// A normal end of a process that may not remove its own region: anybody may.
        case removable
    }

    package static let version = UInt32(MC_REGION_VERSION)

    // Control words.
    package var isArmed: Bool
    /// Mappings are traced as well.
    package var tracesMaps: Bool
    /// Inner pid of the forked child that is armed alone; 0: all that share the page are.
    package var onlyPid: Int32
    package var depth: UInt32
    package var commands: UInt64
    package var floor: UInt64
    /// 0: every allocation is traced; n: on the average one per 2^n bytes asked for.
    package var sample: UInt32
    /// Frames kept of the parts of a deepened stack; 0: none is deepened.
    package var deepen: UInt32
    // Who this is.
    package var pid: Int32
    package var uid: UInt32
    package var startNanoseconds: UInt64
    /// Nanoseconds since boot that the births of tags count from.
    package var birthsFromNanoseconds: UInt64
    package var startRealtimeNanoseconds: UInt64
    package var heapRoot: UInt64
    package var libraryStart: UInt64
    package var libraryEnd: UInt64
    package var parentPid: Int32
    /// How it ended; an unknown value counts as kept.
    package var ending: Ending
    package var name: String
    package var executable: String
    // Answers and counters.
    package var commandsSeen: UInt64
    package var epoch: UInt64
    package var overflowStacks: UInt64
    package var untaggedAllocs: UInt64
    package var cutStacks: UInt64
    package var stoppedStacks: UInt64
    package var ownBytes: UInt64
    /// Of these, the trails of threads.
    package var trailBytes: UInt64
    package var tracedSinceNanoseconds: UInt64
    /// Where `pid` counts, an inode or a /proc (see Census); 0: not known.
    package var pidNamespace: UInt64
    /// Frees that had no room for their row's counters, and are counted out of the overflow row.
    package var misplacedFrees: UInt64
    package var missedMaps: UInt64
    /// Where the lists of the tracing's own memory are noted; 0: nowhere.
    package var ownLists: UInt64
    /// Of windows 1 and up of frames: one more than the bits of addresses above; 0: none.
    package var frameWindows: [UInt64]

    /// Counters are in so many runs; more are taken as threads begin to count.
    package var shards: Int
    package var modules: Area
    package var strings: Area
    package var frames: Area
    package var stacks: Area
    package var counters: Area
    package var samples: Area
    package var common: Area
    package var places: Area

    /// Stacks that were given a row; the first two ids name none.
    package var stackCount: UInt64 { stacks.count.minus(UInt64(MC_STACK_FIRST)) }

    /// Something was recorded that a reader may still want.
    package var holdsTrace: Bool { stackCount > 0 || overflowStacks > 0 }

    /// Reads the first page.
    ///
    /// `path` is for messages only.
    package init(page: UnsafeRawBufferPointer, path: String) throws(HeapImageError) {
        let raw = try Self.raw(page, path)
        isArmed = raw.armed & UInt8(MC_ARMED_TRACE) != 0
        tracesMaps = raw.armed & UInt8(MC_ARMED_MAPS) != 0
        onlyPid = Int32(truncatingIfNeeded: raw.only_pid)
        depth = raw.depth
        commands = raw.commands
        floor = raw.floor
        sample = raw.sample
        deepen = raw.deepen
        pid = Int32(truncatingIfNeeded: raw.pid)
        uid = raw.uid
        startNanoseconds = raw.start_boottime_ns
        birthsFromNanoseconds = raw.births_from_ns
        startRealtimeNanoseconds = raw.start_realtime_ns
        heapRoot = raw.heap_root
        libraryStart = raw.library_start
        libraryEnd = raw.library_end
        parentPid = Int32(truncatingIfNeeded: raw.parent_pid)
        ending =
            switch raw.exited {
            case 0: .none
            case UInt32(MC_EXITED): .removable
            default: .kept
            }
        name = Self.text(of: raw.name).withoutDeleted
        executable = Self.text(of: raw.executable).withoutDeleted
        commandsSeen = raw.commands_seen
        epoch = raw.epoch
        overflowStacks = raw.overflow_stacks
        untaggedAllocs = raw.untagged_allocs
        cutStacks = raw.cut_stacks
        stoppedStacks = raw.stopped_stacks
        ownBytes = raw.own_bytes
        trailBytes = min(raw.trail_bytes, raw.own_bytes)
        tracedSinceNanoseconds = raw.traced_since_ns
        pidNamespace = raw.pid_namespace
        misplacedFrees = raw.misplaced_frees
        missedMaps = raw.missed_maps
        ownLists = raw.own_lists
        frameWindows = withUnsafeBytes(of: raw.frame_windows) {
            Array($0.bindMemory(to: UInt64.self))
        }
        shards = Int(raw.shards)
        let areas = withUnsafeBytes(of: raw.areas) { bytes in
            bytes.bindMemory(to: mc_region_area.self).map {
                Area(
                    offset: $0.offset, recordSize: $0.record_size, capacity: $0.capacity,
                    count: $0.offset == 0 ? 0 : $0.count)
            }
        }
        modules = areas[Int(MC_AREA_MODULES)]
        strings = areas[Int(MC_AREA_STRINGS)]
        frames = areas[Int(MC_AREA_FRAMES)]
        stacks = areas[Int(MC_AREA_STACKS)]
        counters = areas[Int(MC_AREA_COUNTERS)]
        samples = areas[Int(MC_AREA_SAMPLES)]
        common = areas[Int(MC_AREA_COMMON)]
        places = areas[Int(MC_AREA_PLACES)]
    }

    /// The page, if it is one of a region of this version.
    private static func raw(
        _ page: UnsafeRawBufferPointer, _ path: String
    ) throws(HeapImageError) -> mc_region {
        guard page.count >= MemoryLayout<mc_region>.size else {
            throw .notRegion(path: path, why: "it is too short")
        }
        var raw = mc_region()
        withUnsafeMutableBytes(of: &raw) { $0.copyMemory(from: .init(rebasing: page[..<$0.count])) }
        guard raw.magic == MC_REGION_MAGIC else {
            throw .notRegion(path: path, why: "it does not begin like one")
        }
        guard raw.version == version else {
            throw .otherVersion(found: raw.version, expected: version)
        }
        guard raw.shards >= 1, raw.shards <= UInt32(MC_REGION_SHARDS) else {
            throw .damagedRegion(path: path, why: "\(raw.shards) counter shards")
        }
        return raw
    }

    /// A fixed C array of characters, up to its terminator or its end.
    private static func text<Characters>(of characters: Characters) -> String {
        withUnsafeBytes(of: characters) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}

extension String {
    /// What /proc adds to the name of an executable that was replaced while it ran.
    var withoutDeleted: String {
        hasSuffix(" (deleted)") ? String(dropLast(10)) : self
    }
}
