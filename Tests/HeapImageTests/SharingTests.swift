// SPDX-License-Identifier: MIT
import CRegion
import Glibc
import Testing

@testable import HeapImage

/// Regions that are not reached, or not owned, the ordinary way.
@Suite struct SharingTests {
    /// A number no process has.
    private static let nobody: UInt32 = 0x7fff_fff0

    private func sample(pid: UInt32) throws -> SampleRegion {
        var sample = SampleRegion()
        sample.header.pid = pid
        sample.header.start_boottime_ns = bootTimeNanoseconds()
        let executable = try #require(Descriptor.link(at: "/proc/self/exe"))
        withUnsafeMutableBytes(of: &sample.header.executable) { bytes in
            bytes.copyBytes(from: executable.utf8.prefix(1023) + [0])
        }
        sample.putHeader()
        return sample
    }

    /// This process maps a region that names another pid: as a forked child does.
    @Test func aChildSharesItsParentsRegion() throws {
        let mapped = MappedRegion(try sample(pid: Self.nobody), "\(Self.nobody)")
        let child = try mapped.directory.entry(livePid: getpid())
        #expect(child.state == .alive(pid: getpid()))
        #expect(child.owner == Int32(Self.nobody))
        #expect(child.innerPid == getpid())
        // The rows are its parent's.
        #expect(try child.file.header().holdsTrace)
        #expect(!child.header.holdsTrace)
        #expect(try StackTable(child.file, child.currentHeader()).rows.isEmpty)
        #expect(try Snapshot(child).stacks.total == StackCounts())

        let parent = try mapped.directory.entry(path: mapped.path)
        #expect(parent.state == .dead)
        #expect(!parent.isShared)
        let sharers = mapped.directory.sharers(of: [parent])
        #expect(sharers.map(\.livePid) == [getpid()])
        #expect(sharers.map(\.owner) == [Int32(Self.nobody)])
    }

    @Test func onlyWhoIsMeantIsTraced() throws {
        let mapped = MappedRegion(try sample(pid: Self.nobody), "\(Self.nobody)")
        let file = try RegionFile(path: mapped.path, forWriting: true)
        func traced() throws -> [Bool] {
            [
                try mapped.directory.entry(path: mapped.path).isTraced,
                try mapped.directory.entry(livePid: getpid()).isTraced,
            ]
        }
        try file.setOnlyPid(0)
        #expect(try traced() == [true, true])
        try file.setOnlyPid(getpid())
        #expect(try file.header().onlyPid == getpid())
        #expect(try traced() == [false, true])
        try file.setOnlyPid(1)
        #expect(try traced() == [false, false])
        try file.setArmed(false)
        try file.setOnlyPid(0)
        #expect(try traced() == [false, false])
    }

    @Test func anOwnerSharesNothing() throws {
        let mapped = MappedRegion(try sample(pid: UInt32(getpid())), "\(getpid())")
        let entry = try mapped.directory.entry(livePid: getpid())
        #expect(!entry.isShared)
        #expect(mapped.directory.sharers(of: [entry]).isEmpty)
    }

    /// A region without a name is reached, and steered, by what the process maps.
    ///
    /// The kernel lets only root take that way.
    @Test(.enabled(if: geteuid() == 0)) func aRemovedRegionIsReached() throws {
        let mapped = MappedRegion(try sample(pid: UInt32(getpid())), "\(getpid())")
        let keeper = try RegionFile(path: mapped.path)
        unlink(mapped.path)
        let entry = try mapped.directory.entry(livePid: getpid())
        #expect(entry.file.inode == keeper.inode)
        #expect(try StackTable(entry.file, entry.header).rows.count > 0)
        try entry.file.forWriting().setDepth(17)
        #expect(try keeper.header().depth == 17)
        // Closed, it is found again.
        entry.file.rest()
        #expect(try entry.file.header().depth == 17)
    }

    @Test func steeringSparesAnotherFileOfThatName() throws {
        let folder = Folder()
        let path = folder.write(SampleRegion().bytes, "7")
        let file = try RegionFile(path: path)
        rename(path, path + ".1")
        _ = folder.write(SampleRegion().bytes, "7")
        #expect(throws: HeapImageError.cannotOpen(path: path, code: ENOENT)) {
            try file.forWriting()
        }
    }

    @Test(arguments: [
        (UInt32(0), RegionEntry.State.dead, false), (UInt32(MC_EXITED_KEPT), .exited, false),
        (UInt32(MC_EXITED), .exited, true), (77, .exited, false),
    ])
    func endingsAreTold(exited: UInt32, state: RegionEntry.State, isLeftover: Bool) throws {
        let folder = Folder()
        var sample = SampleRegion()
        (sample.header.pid, sample.header.exited) = (Self.nobody, exited)
        sample.putHeader()
        let path = folder.write(sample.bytes, "\(Self.nobody)")
        let entry = try RegionDirectory(chosen: folder.path).entry(path: path)
        #expect(entry.state == state)
        #expect(entry.isLeftover == isLeftover)
    }

    /// Namespaces of the region, a process and memctl; and whether that may be its process.
    @Test(arguments: [
        (0, 0, 5, true), (0, 7, 5, true), (7, 7, 5, true), (7, 5, 5, false), (5, 7, 5, false),
        // One that can't be seen.
        (5, 0, 5, true), (7, 0, 5, false), (7, 0, 0, true),
    ])
    func numbersBelongToANamespace(region: UInt64, theirs: UInt64, own: UInt64, may: Bool) {
        #expect(Census.mayBeIn(region, theirs: theirs, own: own) == may)
    }

    /// A namespace that is named by a /proc is memctl's if it is memctl's /proc.
    @Test func namespacesAreNamedByProc() throws {
        let (proc, other) = (MC_NAMESPACE_OF_PROC | 21, MC_NAMESPACE_OF_PROC | 22)
        #expect(Census.inode(of: proc, ownProc: proc, own: 5) == 5)
        #expect(Census.inode(of: other, ownProc: proc, own: 5) == other)
        #expect(Census.inode(of: 7, ownProc: proc, own: 5) == 7)
        #expect(Census.inode(of: 0, ownProc: 0, own: 5) == 0)
        #expect(Census.isOfProc(other) && !Census.isOfProc(7) && !Census.isOfProc(0))
    }

    /// A process of another /proc is known by what it maps, and by nothing else.
    @Test func processesOfAnotherProcAreThoseThatMapIt() throws {
        var sample = try sample(pid: UInt32(getpid()))
        sample.header.pid_namespace = MC_NAMESPACE_OF_PROC | 0xffff
        sample.putHeader()
        let mapped = MappedRegion(sample, "\(getpid())")
        let mine = try mapped.directory.entry(path: mapped.path)
        #expect(mine.state == .alive(pid: getpid()))
        #expect(try mapped.directory.entry(livePid: getpid()).owner == nil)
        let folder = Folder()
        let path = folder.write(sample.bytes, "\(getpid())")
        #expect(try RegionDirectory(chosen: folder.path).entry(path: path).state == .dead)
    }

    /// Which file a living program runs the kernel says, until the region does for certain.
    ///
    /// Its name stays.
    @Test(arguments: [0, 1]) func aLivingProgramIsTheKernels(tracedSince: UInt64) throws {
        var sample = SampleRegion()
        sample.header.pid = UInt32(getpid())
        sample.header.start_boottime_ns = bootTimeNanoseconds()
        sample.header.traced_since_ns = tracedSince
        sample.putHeader()
        let mapped = MappedRegion(sample, "\(getpid())")
        let entry = try mapped.directory.entry(path: mapped.path)
        let program = try #require(Descriptor.link(at: "/proc/self/exe"))
        #expect(entry.header.executable == (tracedSince == 0 ? program : "/usr/bin/app"))
        #expect(entry.header.name == "app")
    }

    /// A process 1 of a namespace that is gone is not the machine's.
    @Test func processOneOfAContainerHasEnded() throws {
        let folder = Folder()
        var sample = try sample(pid: 1)
        sample.header.pid_namespace = 1
        sample.putHeader()
        let path = folder.write(sample.bytes, "1")
        #expect(try RegionDirectory(chosen: folder.path).entry(path: path).state == .dead)
    }
}
