// SPDX-License-Identifier: MIT
import CRegion
import Glibc

/// The bytes of a region, wherever they are: a file, or an array in a test.
package protocol RegionBytes {
    var path: String { get }
    /// Size, and how much of it has memory or disk behind it.
    func extent() throws(HeapImageError) -> (size: UInt64, allocated: UInt64)
    /// Bytes read; fewer than asked for only at the end.
    func read(
        at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(HeapImageError) -> Int
}

/// A region file: read with pread(2), steered with pwrite(2), never mapped, so that a process that
/// cuts it short can't crash the reader.
///
/// One thread at a time.
///
/// Its contents are hostile: whoever may write it (its owner) may have put anything there. Reading
/// it takes time and memory in proportion to what the file really occupies.
package final class RegionFile: RegionBytes, @unchecked Sendable {
    package let path: String
    package let device: UInt64
    package let inode: UInt64
    /// Owner of the file; the process may name somebody else.
    package let owner: UInt32
    private let access: Int32
    private let following: Bool
    /// nil while it rests.
    private var descriptor: Descriptor?

    /// Opens a regular file.
    ///
    /// `following` is for the kernel's own links in /proc alone.
    package init(
        path: String, forWriting: Bool = false, following: Bool = false
    ) throws(HeapImageError) {
        access = forWriting ? O_RDWR : O_RDONLY
        self.following = following
        let file = try Descriptor(opening: path, access, following: following)
        self.path = path
        let status = try file.status()
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw .notRegion(path: path, why: "it is no regular file")
        }
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        owner = status.st_uid
        descriptor = file
    }

    /// The same file, to be steered.
    package func forWriting() throws(HeapImageError) -> RegionFile {
        let file = try RegionFile(path: path, forWriting: true, following: following)
        // Another process may have got the number, and made a file of that name, meanwhile.
        guard file.device == device, file.inode == inode else {
            throw .cannotOpen(path: path, code: ENOENT)
        }
        return file
    }

    /// Closes the file until it is read again: a list of thousands needs no thousands of them.
    func rest() {
        descriptor = nil
    }

    private func file() throws(HeapImageError) -> Descriptor {
        if let descriptor { return descriptor }
        let file = try Descriptor(opening: path, access, following: following)
        let status = try file.status()
        guard UInt64(status.st_dev) == device, UInt64(status.st_ino) == inode else {
            throw .cannotOpen(path: path, code: ENOENT)
        }
        descriptor = file
        return file
    }

    package func extent() throws(HeapImageError) -> (size: UInt64, allocated: UInt64) {
        let status = try file().status()
        return (UInt64(max(0, status.st_size)), UInt64(max(0, status.st_blocks)).times(512))
    }

    package func read(
        at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(HeapImageError) -> Int {
        try file().read(at: offset, into: buffer)
    }

    // Control words. Each is one store of the width the process loads.

    /// `maps`: mappings are traced as well.
    package func setArmed(_ armed: Bool, maps: Bool = false) throws(HeapImageError) {
        let value = UInt8(MC_ARMED_TRACE) | (maps ? UInt8(MC_ARMED_MAPS) : 0)
        let armedPlace = MemoryLayout<mc_region>.offset(of: \.armed)
        let directPlace = MemoryLayout<mc_region>.offset(of: \.direct)
        // In the order in which a memctl that is killed in between leaves the short path closed: that
        // is slower, where an armed process with an open one would miss allocations.
        if armed {
            try store(UInt64(0), at: directPlace)
            try store(value, at: armedPlace)
        } else {
            try store(UInt8(0), at: armedPlace)
            try store(UInt64(MC_REGION_DIRECT), at: directPlace)
        }
    }

    /// 0: every allocation is traced; n: on the average one per 2^n bytes asked for.
    package func setSample(_ interval: UInt32) throws(HeapImageError) {
        try store(interval, at: MemoryLayout<mc_region>.offset(of: \.sample))
    }

    /// Frames to keep of the parts of deepened stacks; 0: none is deepened.
    package func setDeepen(_ depth: UInt32) throws(HeapImageError) {
        try store(depth, at: MemoryLayout<mc_region>.offset(of: \.deepen))
    }

    /// Charges the allocations of a stack to parts of it from now on, or no longer.
    package func setDeepened(
        _ isDeepened: Bool, stack: UInt32, _ header: RegionHeader
    ) throws(HeapImageError) {
        let size = UInt64(MemoryLayout<mc_region_stack>.stride)
        try check(
            header.stacks, named: "stacks", recordSize: size,
            atMost: 1 << UInt64(MC_TAG_STACK_BITS))
        guard let place = MemoryLayout<mc_region_stack>.offset(of: \.flags),
            UInt64(stack) < header.stacks.count
        else { throw .damagedRegion(path: path, why: "there is no stack \(stack)") }
        let offset = header.stacks.offset + UInt64(stack) * size + UInt64(place)
        var flags: [UInt16] = [0]
        try withBytes(of: &flags) { (buffer) throws(HeapImageError) in
            _ = try read(at: offset, into: buffer)
        }
        // The process does not change the flags of a stack any more.
        let wanted =
            isDeepened
            ? flags[0] | UInt16(MC_STACK_DEEPEN | MC_STACK_SPLIT)
            : flags[0] & ~UInt16(MC_STACK_DEEPEN)
        if wanted != flags[0] { try store(wanted, at: Int(offset)) }
    }

    /// Of the processes that share the page the only one that is armed; 0: all are.
    package func setOnlyPid(_ pid: Int32) throws(HeapImageError) {
        try store(UInt32(bitPattern: pid), at: MemoryLayout<mc_region>.offset(of: \.only_pid))
    }

    package func setDepth(_ depth: UInt32) throws(HeapImageError) {
        try store(depth, at: MemoryLayout<mc_region>.offset(of: \.depth))
    }

    package func setFloor(_ floor: UInt64) throws(HeapImageError) {
        try store(floor, at: MemoryLayout<mc_region>.offset(of: \.floor))
    }

    package func setCommands(_ commands: UInt64) throws(HeapImageError) {
        try store(commands, at: MemoryLayout<mc_region>.offset(of: \.commands))
    }

    private func store<Value: BitwiseCopyable>(
        _ value: Value, at offset: Int?
    ) throws(HeapImageError) {
        guard let offset else { throw .cannotWrite(path: path, code: EINVAL) }
        var failure: HeapImageError?
        withUnsafeBytes(of: value) { bytes in
            do throws(HeapImageError) {
                try file().write(bytes, at: UInt64(offset))
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }
}

extension RegionBytes {
    package func header() throws(HeapImageError) -> RegionHeader {
        var page = [UInt8](repeating: 0, count: Int(MC_REGION_PAGE))
        var count = 0
        try withBytes(of: &page) { (buffer) throws(HeapImageError) in
            count = try read(at: 0, into: buffer)
        }
        var result: Result<RegionHeader, HeapImageError>?
        page.withUnsafeBytes { buffer in
            result = Result { () throws(HeapImageError) in
                try RegionHeader(
                    page: UnsafeRawBufferPointer(rebasing: buffer[..<count]), path: path)
            }
        }
        guard let result else { throw .notRegion(path: path, why: "it is too short") }
        return try result.get()
    }

    /// All whole records of an area.
    ///
    /// `zero` fixes the record's type and size.
    func records<Record: BitwiseCopyable>(
        _ area: RegionHeader.Area, named name: String, atMost limit: UInt64, zero: Record
    ) throws(HeapImageError) -> [Record] {
        let size = UInt64(MemoryLayout<Record>.stride)
        try check(area, named: name, recordSize: size, atMost: limit)
        guard area.count > 0 else { return [] }
        var records = [Record](repeating: zero, count: Int(area.count))
        var count = 0
        try withBytes(of: &records) { (buffer) throws(HeapImageError) in
            count = try read(at: area.offset, into: buffer)
        }
        guard count == records.count * Int(size) else {
            throw .damagedRegion(path: path, why: "\(name) end beyond the file")
        }
        return records
    }

    /// An area must lie in the file, and may not claim much more than the file really holds: a
    /// file of a few pages can pretend to be of any size.
    func check(
        _ area: RegionHeader.Area, named name: String, recordSize: UInt64, atMost limit: UInt64
    ) throws(HeapImageError) {
        guard area.count > 0 else { return }
        func damaged(_ why: String) -> HeapImageError {
            .damagedRegion(path: path, why: "\(name) \(why)")
        }
        guard area.recordSize == recordSize else {
            throw damaged("have records of \(area.recordSize) bytes, not \(recordSize)")
        }
        guard area.offset >= UInt64(MC_REGION_PAGE), area.offset % 8 == 0 || recordSize == 1
        else { throw damaged("begin at offset \(area.offset)") }
        guard area.count <= area.capacity else {
            throw damaged("number \(area.count) where \(area.capacity) fit")
        }
        guard area.count <= limit else {
            throw damaged("number \(area.count), the limit is \(limit)")
        }
        let (size, allocated) = try extent()
        let bytes = area.count.times(recordSize)
        guard area.offset.plus(bytes) <= size else { throw damaged("end beyond the file") }
        guard bytes <= max(allocated, Self.freeClaim) else {
            throw damaged("claim \(bytes) bytes of a file that holds \(allocated)")
        }
    }

    /// What a file may claim without occupying it: a copy may have been made sparse or compressed.
    private static var freeClaim: UInt64 { 64 << 20 }
}

extension RegionBytes {
    /// A field of the first page as it is now; 0 where the file is too short for it.
    func now<Value: FixedWidthInteger & BitwiseCopyable>(
        _ field: KeyPath<mc_region, Value>
    ) throws(HeapImageError) -> Value {
        var value: [Value] = [0]
        let offset = UInt64(MemoryLayout<mc_region>.offset(of: field) ?? 0)
        try withBytes(of: &value) { (buffer) throws(HeapImageError) in
            _ = try read(at: offset, into: buffer)
        }
        return value[0]
    }
}

/// The bytes of an array, for a reader that throws.
func withBytes<Element: BitwiseCopyable>(
    of array: inout [Element],
    _ body: (UnsafeMutableRawBufferPointer) throws(HeapImageError) -> Void
) throws(HeapImageError) {
    var failure: HeapImageError?
    array.withUnsafeMutableBytes { buffer in
        do throws(HeapImageError) {
            try body(buffer)
        } catch {
            failure = error
        }
    }
    if let failure { throw failure }
}
