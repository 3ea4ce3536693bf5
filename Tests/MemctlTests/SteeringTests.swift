// SPDX-License-Identifier: MIT
import CRegion
import Glibc
import Reports
import Testing

@testable import HeapImage
@testable import memctl

/// A page of control words that this very process maps: its own, or its parent's.
///
/// One at a time, whatever tests run beside: a process is found by what it maps.
private final class ControlPage {
    let path: String
    private let folder: String
    private let lock: Int32
    private let address: UnsafeMutableRawPointer?

    init(pid: Int32) {
        lock = open("/proc/self/exe", O_RDONLY | O_CLOEXEC)
        flock(lock, LOCK_EX)
        var template = Array("/tmp/memctl-test-XXXXXX".utf8CString)
        mkdtemp(&template)
        folder = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        path = folder + "/\(pid)"
        var header = mc_region()
        header.magic = MC_REGION_MAGIC
        header.version = UInt32(MC_REGION_VERSION)
        header.shards = 1
        header.pid = UInt32(pid)
        header.depth = 64
        header.start_boottime_ns = bootTimeNanoseconds()
        let file = open(path, O_RDWR | O_CREAT, 0o600)
        withUnsafeBytes(of: header) { _ = write(file, $0.baseAddress, $0.count) }
        ftruncate(file, 4096)
        address = mmap(nil, 4096, PROT_READ, MAP_SHARED, file, 0)
        close(file)
    }

    deinit {
        munmap(address, 4096)
        unlink(path)
        rmdir(folder)
        close(lock)
    }

    func entry() throws -> RegionEntry {
        try RegionDirectory(chosen: folder).entry(livePid: getpid())
    }

    func header() throws -> RegionHeader { try RegionFile(path: path).header() }
    func file() throws -> RegionFile { try RegionFile(path: path, forWriting: true) }
}

@Suite struct SteeringTests {
    private let nobody: Int32 = 0x7fff_fff0

    @Test func anOwnerIsArmedWithItsChildren() throws {
        let page = ControlPage(pid: getpid())
        try page.file().setOnlyPid(nobody)
        let entry = try Steering.on(page.entry(), TraceSettings(depth: 9))
        #expect(!entry.isShared)
        var header = try page.header()
        #expect(header.isArmed)
        #expect((header.onlyPid, header.depth, header.commands) == (0, 9, 1))
        try Steering.off(entry)
        header = try page.header()
        #expect(!header.isArmed)
        #expect(header.commands == 2)
    }

    /// It never allocates, so that it keeps sharing.
    @Test func aChildIsArmedAlone() throws {
        let page = ControlPage(pid: nobody)
        let start = bootTimeNanoseconds()
        let entry = try Steering.on(page.entry())
        #expect(entry.owner == nobody)
        #expect(bootTimeNanoseconds() - start >= 1_000_000_000)
        var header = try page.header()
        #expect(header.isArmed)
        #expect((header.onlyPid, header.commands) == (getpid(), 1))
        try Steering.off(entry)
        header = try page.header()
        #expect(!header.isArmed)
        #expect((header.onlyPid, header.commands) == (0, 2))
        // Nothing to do the second time.
        try Steering.off(entry)
        #expect(try page.header().commands == 2)
    }

    @Test func whatIsArmedForAllStaysSo() throws {
        let page = ControlPage(pid: nobody)
        try page.file().setArmed(true)
        let entry = try Steering.on(page.entry())
        #expect(try page.header().onlyPid == 0)
        #expect(entry.isTraced)
        let process = ReportedProcess(entry)
        #expect(throws: SteeringError.sharesTraced(process, owner: nobody)) {
            try Steering.off(entry)
        }
        #expect(try page.header().isArmed)
    }

    @Test func aChildThatIsGoneIsNotWaitedFor() throws {
        let page = ControlPage(pid: nobody)
        try page.file().setOnlyPid(nobody - 1)
        try page.file().setArmed(true)
        _ = try Steering.on(page.entry())
        #expect(try page.header().onlyPid == getpid())
    }

    @Test func aSharedTableIsNotReset() throws {
        let page = ControlPage(pid: nobody)
        let entry = try page.entry()
        #expect(throws: SteeringError.nothingToReset(ReportedProcess(entry), owner: nobody)) {
            try Steering.reset(entry, depth: nil)
        }
        #expect(try page.header().commands == 0)
    }

    @Test func errorsSayWhatToDo() {
        let one = ReportedProcess(
            pid: 4, name: "a", executable: "/a", state: .alive, isTraced: false)
        let errors: [SteeringError] = [
            .sharesTraced(one, owner: 3), .nothingToReset(one, owner: 3),
            .otherWaits(one, other: one, owner: 3), .noRegionYet(one),
        ]
        for error in errors {
            #expect("\(error)".hasPrefix("process 4 (a) "))
            #expect("\(error)".contains(" — "))
        }
    }
}
