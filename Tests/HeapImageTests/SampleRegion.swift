// SPDX-License-Identifier: MIT
import CRegion
import HeapImage

/// A region made by hand: five frames, four stacks, two modules, and counters in two shards.
///
///     main 0x400100 <- parse 0x400200 <- grow 0x500300          stack 2
///                                     <- malloc 0x700010        stack 3, frame of the library
///     main          <- again 0x400200 <- grow 0x500300          stack 4, the same as stack 2
///     stack 5: nothing of it is live any more, and it is cut
struct SampleRegion {
    var bytes: [UInt8]
    var header = mc_region()

    static let modulesOffset = 4096
    static let stringsOffset = 4352
    static let framesOffset = 4416
    static let stacksOffset = 4544
    static let countersOffset = 4672
    static let capacity = 8
    static let shards = 8
    static let samplesOffset = countersOffset + shards * capacity * 64
    static let commonOffset = samplesOffset + capacity * 64
    static let placesOffset = commonOffset + capacity * 64
    static let size = placesOffset + capacity * 4

    init() {
        bytes = [UInt8](repeating: 0, count: Self.size)
        header.magic = MC_REGION_MAGIC
        header.version = UInt32(MC_REGION_VERSION)
        header.shards = UInt32(Self.shards)
        header.armed = UInt8(MC_ARMED_TRACE)
        header.depth = 64
        header.pid = 12
        header.uid = 0
        header.start_boottime_ns = 1_000_000_000
        header.births_from_ns = 500_000_000
        header.library_start = 0x700000
        header.library_end = 0x800000
        header.cut_stacks = 1
        header.frame_windows.0 = 1
        header.traced_since_ns = 2_000_000_000
        withUnsafeMutableBytes(of: &header.name) { $0.copyBytes(from: "app".utf8) }
        withUnsafeMutableBytes(of: &header.executable) { $0.copyBytes(from: "/usr/bin/app".utf8) }
        putModules()
        putFrames()
        putStacks()
        putAreas()
        putHeader()
    }

    /// Stores `header` again after a change.
    mutating func putHeader() {
        put(header, at: 0)
    }

    mutating func put<Value>(_ value: Value, at offset: Int) {
        withUnsafeBytes(of: value) { bytes.replaceSubrange(offset..<(offset + $0.count), with: $0) }
    }

    private mutating func putModules() {
        let names = ["/usr/bin/app", "/usr/lib/libgrow.so"]
        bytes.replaceSubrange(
            Self.stringsOffset..<(Self.stringsOffset + 31), with: names.joined().utf8)
        var app = mc_region_module()
        (app.start, app.end, app.bias) = (0x400000, 0x500000, 0x400000)
        (app.path_offset, app.path_size) = (0, 12)
        (app.first_epoch, app.last_epoch, app.build_id_size) = (0, .max, 4)
        withUnsafeMutableBytes(of: &app.build_id) { $0.copyBytes(from: [1, 2, 3, 4]) }
        var library = app
        (library.start, library.end, library.bias) = (0x500000, 0x600000, 0x500000)
        (library.path_offset, library.path_size) = (12, 19)
        put(app, at: Self.modulesOffset)
        put(library, at: Self.modulesOffset + 80)
    }

    private mutating func putFrames() {
        let frames: [(pc: UInt64, parent: UInt32)] = [
            (0, 0), (0x400100, 0), (0x400200, 1), (0x500300, 2), (0x700010, 2), (0x400200, 1),
            (0x500300, 5), (0x400100, 0),
        ]
        for (index, frame) in frames.enumerated() where index > 0 {
            self.frame(index, pc: frame.pc, parent: frame.parent)
        }
    }

    private mutating func putStacks() {
        let innermost: [UInt32] = [0, 0, 3, 4, 6, 1]
        for (id, frame) in innermost.enumerated() {
            let flags = id == 5 ? UInt16(MC_STACK_CUT) : 0
            put(
                mc_region_stack(hash: 0, frame: 2 * frame, depth: 3, flags: flags),
                at: Self.stacksOffset + id * 16)
        }
        count(2, shard: 0, mc_region_counters(10, 4, bytes: 1000, 400, usable: 1120, 448))
        count(3, shard: 0, mc_region_counters(5, 0, bytes: 80, 0, usable: 80, 0))
        // Another thread freed one that was counted in by shard 0.
        count(4, shard: 1, mc_region_counters(2, 1, bytes: 200, 100, usable: 224, 112))
        count(5, shard: 1, mc_region_counters(7, 7, bytes: 70, 70, usable: 112, 112))
    }

    mutating func count(_ stack: Int, shard: Int, _ counters: mc_region_counters) {
        let run = Self.countersOffset + shard * Self.capacity * 64
        guard shard > 0 else { return put(counters, at: run + stack * 64) }
        put(mc_region_narrow(counters), at: run + stack * 32)
    }

    mutating func turns(_ stack: Int, shard: Int, _ turns: mc_region_narrow) {
        let run = Self.countersOffset + shard * Self.capacity * 64
        put(turns, at: run + (Self.capacity + stack) * 32)
    }

    /// In a common row.
    mutating func count(
        _ stack: Int, row: Int, _ counters: mc_region_narrow,
        turns: mc_region_narrow = mc_region_narrow()
    ) {
        put(UInt32(row), at: Self.placesOffset + stack * 4)
        put(counters, at: Self.commonOffset + row * 32)
        put(turns, at: Self.commonOffset + (Self.capacity + row) * 32)
    }

    mutating func samples(_ stack: Int, _ samples: mc_region_samples) {
        put(samples, at: Self.samplesOffset + stack * 64)
    }

    mutating func stack(_ id: Int, frame: UInt32, depth: UInt16, flags: Int) {
        put(
            mc_region_stack(hash: 0, frame: 2 * frame, depth: depth, flags: UInt16(flags)),
            at: Self.stacksOffset + id * 16)
    }

    /// Record 2 n is frame n, behind a link of its own, in window 1.
    mutating func frame(_ index: Int, pc: UInt64, parent: UInt32) {
        record(2 * index - 1, mc_frame_link(2 * parent, 0))
        record(2 * index, mc_frame_word(1, pc))
    }

    mutating func record(_ index: Int, _ word: UInt32) {
        put(mc_region_frame(word: word), at: Self.framesOffset + index * 4)
    }

    private mutating func putAreas() {
        let areas: [(Int, Int, Int, Int)] = [
            (Self.modulesOffset, 80, 3, 2), (Self.stringsOffset, 1, 64, 31),
            (Self.framesOffset, 4, 30, 15), (Self.stacksOffset, 16, Self.capacity, 6),
            (Self.countersOffset, 64, Self.capacity, 6),
            (Self.samplesOffset, 64, Self.capacity, 0),
            (Self.commonOffset, 32, Self.capacity, 1),
            (Self.placesOffset, 4, Self.capacity, 6),
        ]
        withUnsafeMutableBytes(of: &header.areas) { bytes in
            let table = bytes.bindMemory(to: mc_region_area.self)
            for (index, area) in areas.enumerated() {
                table[index] = mc_region_area(
                    offset: UInt64(area.0), record_size: UInt64(area.1),
                    capacity: UInt64(area.2), count: UInt64(area.3))
            }
        }
    }
}

extension mc_region_counters {
    init(
        _ allocs: UInt64, _ frees: UInt64, bytes bytesIn: UInt64, _ bytesOut: UInt64,
        usable usableIn: UInt64, _ usableOut: UInt64
    ) {
        self.init(
            allocs: allocs, frees: frees, bytes_in: bytesIn, bytes_out: bytesOut,
            usable_in: usableIn, usable_out: usableOut, lifetimes: 0, temporary: 0)
    }
}

extension mc_region_narrow {
    /// Of each counter what is in its own word.
    init(_ counters: mc_region_counters) {
        self.init(
            allocs: UInt32(truncatingIfNeeded: counters.allocs),
            frees: UInt32(truncatingIfNeeded: counters.frees),
            bytes_in: UInt32(truncatingIfNeeded: counters.bytes_in),
            bytes_out: UInt32(truncatingIfNeeded: counters.bytes_out),
            usable_in: UInt32(truncatingIfNeeded: counters.usable_in),
            usable_out: UInt32(truncatingIfNeeded: counters.usable_out),
            lifetimes: UInt32(truncatingIfNeeded: counters.lifetimes),
            temporary: UInt32(truncatingIfNeeded: counters.temporary))
    }
}

/// A region in an array.
struct ByteArray: RegionBytes {
    var path: String { "array" }
    var bytes: [UInt8]
    /// What a sparse file of that size would really occupy.
    var allocated: UInt64?

    func extent() throws(HeapImageError) -> (size: UInt64, allocated: UInt64) {
        (UInt64(bytes.count), allocated ?? UInt64(bytes.count))
    }

    func read(
        at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(HeapImageError) -> Int {
        guard offset < UInt64(bytes.count) else { return 0 }
        let start = Int(offset)
        let count = min(buffer.count, bytes.count - start)
        bytes.withUnsafeBytes { source in
            buffer.copyMemory(
                from: UnsafeRawBufferPointer(rebasing: source[start..<(start + count)]))
        }
        return count
    }
}
