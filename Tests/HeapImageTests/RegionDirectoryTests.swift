// SPDX-License-Identifier: MIT
import CRegion
import Glibc
import Testing

@testable import HeapImage

/// A folder that goes with the test.
final class Folder {
    let path: String

    init() {
        var template = Array("/tmp/memctl-test-XXXXXX".utf8CString)
        mkdtemp(&template)
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit {
        for name in Descriptor.names(in: path) { unlink(path + "/" + name) }
        rmdir(path)
    }

    func write(_ bytes: [UInt8], _ name: String) -> String {
        let file = open(path + "/" + name, O_CREAT | O_WRONLY | O_TRUNC, 0o600)
        _ = Glibc.write(file, bytes, bytes.count)
        close(file)
        return path + "/" + name
    }
}

@Suite struct RegionDirectoryTests {
    private let folder = Folder()

    @Test(arguments: [
        ("12", 0), ("12.1", 1), ("12.30", 30), ("", nil), ("x", nil), ("12.x", nil), ("12.", nil),
        (".1", nil), ("012", nil), ("+12", nil), ("12.01", nil), ("12.0", nil), ("12.1.1", nil),
        ("-3", nil), ("0", nil), ("99999999999", nil),
    ])
    func namesOfRegions(name: String, generation: Int?) {
        #expect(RegionDirectory.generation(of: name) == generation)
    }

    @Test func whatEndedIsFound() throws {
        var sample = SampleRegion()
        sample.header.pid = 0x7fff_fff0
        sample.putHeader()
        _ = folder.write(sample.bytes, "2147483632")
        _ = folder.write(sample.bytes, "2147483632.2")
        _ = folder.write(sample.bytes, "notes")
        _ = folder.write([1, 2, 3], "55")
        let entries = RegionDirectory(chosen: folder.path).entries()
        #expect(Set(entries.map(\.label)) == ["2147483632", "2147483632.2"])
        #expect(entries.allSatisfy { $0.state == .dead })
    }

    @Test func aKeptRegionHasExited() throws {
        var sample = SampleRegion()
        sample.header.pid = 0x7fff_fff0
        sample.header.exited = 1
        sample.putHeader()
        let path = folder.write(sample.bytes, "2147483632")
        #expect(try RegionDirectory(chosen: folder.path).entry(path: path).state == .exited)
    }

    /// This process maps the file, started before it, and has its pid: it is alive.
    @Test func aProcessThatMapsItsRegionIsAlive() throws {
        var sample = SampleRegion()
        sample.header.pid = UInt32(getpid())
        sample.header.start_boottime_ns = bootTimeNanoseconds()
        sample.putHeader()
        // Without the mapping the pid alone is not enough.
        let path = folder.write(sample.bytes, "\(getpid())")
        #expect(try RegionDirectory(chosen: folder.path).entry(path: path).state == .dead)
        let mapped = MappedRegion(sample, "\(getpid())")
        let directory = mapped.directory
        #expect(try directory.entry(path: mapped.path).state == .alive(pid: getpid()))
        let found = try directory.entry(livePid: getpid())
        #expect(found.header.pid == getpid())
        #expect(found.state == .alive(pid: getpid()))
        // memctl does not show itself.
        #expect(directory.entries().isEmpty)
    }

    @Test func aYoungerProcessWithTheSamePidIsAnother() throws {
        var sample = SampleRegion()
        sample.header.pid = UInt32(getpid())
        sample.header.start_boottime_ns = 1
        sample.putHeader()
        let path = folder.write(sample.bytes, "\(getpid())")
        #expect(try RegionDirectory(chosen: folder.path).entry(path: path).state == .dead)
    }

    @Test func processesWithoutTheLibraryAreNamed() {
        let directory = RegionDirectory(chosen: folder.path)
        #expect(throws: HeapImageError.noProcess(pid: 0x7fff_fff0)) {
            try directory.entry(livePid: 0x7fff_fff0)
        }
    }

    @Test func onlyRegularFilesAreOpened() throws {
        let fifo = folder.path + "/1"
        mkfifo(fifo, 0o600)
        #expect(throws: HeapImageError.self) { try RegionFile(path: fifo) }
        let link = folder.path + "/2"
        symlink("/etc/passwd", link)
        #expect(throws: HeapImageError.cannotOpen(path: link, code: ELOOP)) {
            try RegionFile(path: link)
        }
        #expect(throws: HeapImageError.self) { try RegionFile(path: folder.path) }
        #expect(throws: HeapImageError.self) { try RegionFile(path: "/dev/zero") }
        #expect(throws: HeapImageError.cannotOpen(path: folder.path + "/3", code: ENOENT)) {
            try RegionFile(path: folder.path + "/3")
        }
    }

    /// The word that malloc compares sizes with.
    private func direct(_ file: RegionFile) throws -> UInt64 {
        var word: UInt64 = 1
        let place = try #require(MemoryLayout<mc_region>.offset(of: \.direct))
        let count = try withUnsafeMutableBytes(of: &word) {
            try file.read(at: UInt64(place), into: $0)
        }
        #expect(count == 8)
        return word
    }

    @Test func controlWordsAreStored() throws {
        let path = folder.write(SampleRegion().bytes, "7")
        let file = try RegionFile(path: path, forWriting: true)
        try file.setArmed(true, maps: true)
        #expect(try (file.header().isArmed, file.header().tracesMaps) == (true, true))
        #expect(try direct(file) == 0)
        try file.setArmed(false)
        #expect(try direct(file) == UInt64(MC_REGION_DIRECT))
        try file.setDepth(17)
        try file.setFloor(5)
        try file.setCommands(9)
        let header = try file.header()
        #expect(!header.isArmed)
        #expect(header.depth == 17)
        #expect(header.floor == 5)
        #expect(header.commands == 9)
        // Nothing else changed.
        #expect(header.name == "app")
        #expect(try StackTable(file, header).rows.map(\.stack) == [5])
    }

    @Test func removingSparesAnotherFileOfThatName() throws {
        var sample = SampleRegion()
        sample.header.pid = 0x7fff_fff0
        sample.putHeader()
        let path = folder.write(sample.bytes, "2147483632")
        let directory = RegionDirectory(chosen: folder.path)
        let entry = try directory.entry(path: path)
        rename(path, path + ".old")
        _ = folder.write(sample.bytes, "2147483632")
        try directory.remove(entry)
        #expect(access(path, F_OK) == 0)
        try directory.remove(directory.entry(path: path))
        #expect(access(path, F_OK) != 0)
    }

    @Test(arguments: [
        ("7f00-8000 rw-s 00000000 00:19 42 /dev/shm/memctl-0/12", true),
        ("7f00-8000 rw-p 00000000 08:01 42 /usr/lib/x y.so", false),
    ])
    func linesOfMapsAreUnderstood(line: String, isShared: Bool) throws {
        let mapping = try #require(FileMapping(line: Array(line.utf8)[...]))
        #expect(mapping.start == 0x7f00)
        #expect(mapping.end == 0x8000)
        #expect(mapping.inode == 42)
        #expect(mapping.isShared == isShared)
        #expect(mapping.path.hasPrefix("/"))
    }

    @Test(arguments: ["", "7f00-8000 rw-p 00000000 00:00 0", "7f00 rw-p 0 0:0 1 /x", "a b c d e f"])
    func otherLinesAreNone(line: String) {
        #expect(FileMapping(line: Array(line.utf8)[...]) == nil)
    }

    @Test func errorsSayWhatToDo() {
        let errors: [HeapImageError] = [
            .noProcess(pid: 3), .notPreloaded(pid: 3), .otherUser(pid: 3, uid: 5),
            .notPermitted(pid: 3, scope: 1), .gone(pid: 3), .unreadable(address: 16),
            .cannotOpen(path: "/x", code: ENOENT), .cannotWrite(path: "/x", code: EACCES),
            .notRegion(path: "/x", why: "y"), .otherVersion(found: 2, expected: 1),
            .damagedRegion(path: "/x", why: "y"), .otherHeap(found: 2, expected: 1),
            .damagedHeap(why: "y"),
        ]
        for error in errors { #expect("\(error)".contains(" — ")) }
        #expect("\(HeapImageError.notPermitted(pid: 3, scope: 1))".contains("ptrace_scope is 1"))
        #expect("\(HeapImageError.notPermitted(pid: 3, scope: 1))".contains("CAP_SYS_PTRACE"))
        #expect(!"\(HeapImageError.notPermitted(pid: 3, scope: 3))".contains("write 0"))
    }
}

extension RegionDirectoryTests {
    @Test func aThousandRegionsNeedNoThousandDescriptors() throws {
        let folder = Folder()
        var sample = SampleRegion()
        for number in 0..<300 {
            sample.header.pid = UInt32(0x7fff_0000 + number)
            sample.putHeader()
            _ = folder.write(sample.bytes, "\(0x7fff_0000 + number)")
        }
        let before = Descriptor.names(in: "/proc/self/fd").count
        let entries = RegionDirectory(chosen: folder.path).entries()
        // Other tests run beside this one and open a few.
        #expect(Descriptor.names(in: "/proc/self/fd").count < before + 100)
        #expect(entries.count == 300)
        #expect(try entries[7].file.header().pid == entries[7].header.pid)
    }
}
