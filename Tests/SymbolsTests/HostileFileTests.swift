// SPDX-License-Identifier: MIT

import Glibc
import Testing

@testable import Symbols

/// Paths and files come from processes nobody vouches for: names may be missing, nothing worse.
@Suite(.enabled(if: Scratch.has("g++") && Scratch.has("nm"))) struct HostileFileTests {
    private func check(_ module: Module, pc: UInt64, _ problem: String) {
        let symbolizer = Symbolizer(modules: [module], debugDirectories: [])
        #expect(
            symbolizer.locations(ofReturnAddress: pc, epoch: 0)
                == [Location(module: module.path, moduleOffset: pc &- module.bias)])
        #expect(symbolizer.problems.count == 1)
        #expect(symbolizer.problems.first?.contains(problem) == true, "\(symbolizer.problems)")
    }

    @Test(arguments: [
        ("/dev/zero", "not a regular file"), ("/dev/tty", ""), ("/", "not a regular file"),
        ("/proc/self/mem", "not a regular file"), ("/proc/kmsg", ""),
        ("/absent/file", "no such file"),
        ("", "no such file"), ("/etc/passwd", "not an ELF file"),
        ("/etc/passwd\0x", "no such file"),
        ("/etc/passwd/x", "no such file"), ("//anon", "no such file"), ("[heap]", "no such file"),
        (String(repeating: "/x", count: 5000), "File name too long"),
    ])
    func pathsThatAreNoProgram(path: String, problem: String) {
        check(
            Module(path: path, buildID: [1, 2], start: 0x1000, end: 0x2000, bias: 0x1000),
            pc: 0x1800, problem)
    }

    @Test func aFifoIsNotWaitedFor() throws {
        let scratch = try Scratch()
        #expect(mkfifo(scratch.path("fifo"), 0o600) == 0)
        check(
            Module(path: scratch.path("fifo"), buildID: [], start: 0, end: 9, bias: 0), pc: 5,
            "not a regular file")
    }

    @Test func aReplacedFileIsNotUsed() throws {
        let fixture = try Fixture()
        let module = fixture.module(buildID: Array(repeating: 0xab, count: 20))
        let pc = module.bias + (try fixture.address("mark_plain")) + 1
        check(module, pc: pc, "was replaced")
        check(fixture.module(buildID: [0xab]), pc: pc, "was replaced")
    }

    @Test func aDeletedFileIsTakenFromTheProcess() throws {
        let fixture = try Fixture()
        try fixture.scratch.run(["cp", "/bin/sleep", "sleeper"])
        let path = fixture.scratch.path("sleeper")
        // The fixture's file, held open by a mapping of this very process.
        let descriptor = open(fixture.program, O_RDONLY)
        let size = 4096
        let mapping = try #require(mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0))
        close(descriptor)
        defer { munmap(mapping, size) }
        try fixture.scratch.run(["mv", "sleeper", "program"])
        #expect(access(path, F_OK) != 0)
        var module = fixture.module(bias: UInt64(UInt(bitPattern: mapping)))
        let bias = module.bias
        let replaced = Symbolizer(modules: [module], processID: getpid())
        let isAllowed = geteuid() == 0
        #expect(
            try fixture.locations("mark_plain", replaced, bias: bias).last?.function
                == (isAllowed ? "plain" : nil))
        module.path += " (deleted)"
        let deleted = Symbolizer(modules: [module], root: "/proc/\(getpid())/root")
        #expect(
            try fixture.locations("mark_plain", deleted, bias: bias).last?.function
                == (isAllowed ? "plain" : nil))
        check(module, pc: bias + (try fixture.address("mark_plain")) + 1, "replaced")
    }

    @Test func theKernelsPageHasNames() throws {
        let maps = try Scratch().run(["cat", "/proc/\(getpid())/maps"])
        let line = try #require(maps.split(separator: "\n").first { $0.hasSuffix("[vdso]") })
        let range = line.split(separator: " ")[0].split(separator: "-")
        let start = try #require(UInt64(range[0], radix: 16))
        let end = try #require(UInt64(range[1], radix: 16))
        let page = UnsafeRawBufferPointer(
            start: UnsafeRawPointer(bitPattern: UInt(start)), count: Int(end - start))
        // The head of a build-id note: sizes of name and id, type, "GNU".
        let note: [UInt8] = [4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, 0x47, 0x4e, 0x55, 0]
        let place = (0..<page.count - 36).first { page[$0..<$0 + 16].elementsEqual(note) }
        let id = try #require(place) + 16
        func names(_ buildID: [UInt8]) -> Set<String> {
            let module = Module(
                path: "[vdso]", buildID: buildID, start: start, end: end, bias: start)
            let symbolizer = Symbolizer(modules: [module])
            return Set(
                (start..<end).compactMap {
                    symbolizer.locations(ofReturnAddress: $0 + 1, epoch: 0).first?.function
                })
        }
        #expect(names(Array(page[id..<id + 20])).contains { $0.contains("clock_gettime") })
        #expect(names(Array(repeating: 7, count: 20)).isEmpty)
        #expect(names([]).isEmpty)
    }

    @Test func emptyAndSenselessModules() throws {
        let fixture = try Fixture()
        let modules = [
            Module(path: fixture.program, buildID: [], start: 9, end: 9, bias: 0),
            Module(path: fixture.program, buildID: [], start: 9, end: 3, bias: 0),
            Module(path: fixture.program, buildID: [], start: 0, end: .max, bias: .max),
            Module(
                path: fixture.program, buildID: Array(repeating: 1, count: 1 << 16), start: 0,
                end: .max,
                bias: 1 << 63, firstEpoch: 9, lastEpoch: 2),
        ]
        let symbolizer = Symbolizer(modules: modules)
        for pc in [0, 1, 9, 1 << 40, UInt64.max] {
            for epoch in [0, 5, UInt32.max] {
                #expect(!symbolizer.locations(ofReturnAddress: pc, epoch: epoch).isEmpty)
            }
        }
    }

    /// Every file cut short at many places, and with bytes changed all over.
    @Test(arguments: [["-O2", "-g"], ["-O2", "-g", "-gz"], ["-O2", "-gdwarf-4"], ["-O2"]])
    func damagedFilesGiveNoNamesButNoHarm(flags: [String]) throws {
        let fixture = try Fixture(flags)
        let whole = try fixture.scratch.read("program")
        let code = try fixture.address("mark_add")
        var seed: UInt64 = 1
        func random(_ below: Int) -> Int {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((seed >> 33) % UInt64(below))
        }
        for round in 0..<120 {
            var damaged = whole
            if round.isMultiple(of: 4) {
                damaged = Array(whole[..<random(whole.count)])
            } else {
                for _ in 0..<[1, 20, 400][round % 3] {
                    damaged[random(damaged.count)] =
                        [0, 0xff, 0x7f, 0x80, UInt8(random(256))][random(5)]
                }
            }
            try fixture.scratch.write(damaged, to: "damaged")
            let module = fixture.module(fixture.scratch.path("damaged"), bias: 0, buildID: [])
            let symbolizer = Symbolizer(modules: [module], debugDirectories: [])
            for pc in [code + 1, code + 200, 1, 0x1000, 0x4000] {
                #expect(!symbolizer.locations(ofReturnAddress: pc, epoch: 0).isEmpty)
            }
        }
    }
}
