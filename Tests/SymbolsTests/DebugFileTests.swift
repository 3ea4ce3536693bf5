// SPDX-License-Identifier: MIT

import Glibc
import Testing

@testable import Symbols

/// Debug information kept apart from the program.
@Suite(.enabled(if: Scratch.has("g++") && Scratch.has("objcopy"))) struct DebugFileTests {
    private static let inlined = [
        "+shop::Basket<int>::add(int) shop.cpp:6",
        "+shop::fill(shop::Basket<int>&, int) shop.cpp:10",
        "shop::visit(int) shop.cpp:15",
    ]
    private let fixture: Fixture

    init() throws {
        fixture = try Fixture()
        try fixture.scratch.run(["objcopy", "--only-keep-debug", "program", "program.debug"])
        try fixture.scratch.run(["strip", "program"])
    }

    private func names(_ directories: [String] = [], root: String = "", path: String? = nil) throws
        -> [String]
    {
        let symbolizer = Symbolizer(
            modules: [fixture.module(path)], root: root, debugDirectories: directories)
        return Fixture.text(try fixture.locations("mark_add", symbolizer))
    }

    private func link() throws {
        try fixture.scratch.run(["objcopy", "--add-gnu-debuglink=program.debug", "program"])
    }

    private func move(to directory: String, as name: String = "program.debug") throws {
        try fixture.scratch.run(["mkdir", "-p", directory])
        try fixture.scratch.run(["mv", "program.debug", "\(directory)/\(name)"])
    }

    @Test func withoutItThereIsNoName() throws {
        #expect(try names() == ["? ?:?"])
    }

    @Test func besideTheProgram() throws {
        try link()
        #expect(try names() == Self.inlined)
    }

    @Test func inTheHiddenDirectoryBesideTheProgram() throws {
        try link()
        try move(to: ".debug")
        #expect(try names() == Self.inlined)
    }

    @Test func belowADebugDirectoryByName() throws {
        try link()
        try move(to: fixture.scratch.path("debug") + fixture.scratch.path(""))
        #expect(try names([fixture.scratch.path("debug")]) == Self.inlined)
    }

    @Test func belowADebugDirectoryByBuildID() throws {
        try move(to: "debug/.build-id/01", as: "\(Fixture.buildIDText.dropFirst(2)).debug")
        #expect(try names(["/nowhere", fixture.scratch.path("debug")]) == Self.inlined)
    }

    /// The program is gone; its debug file alone names its functions.
    @Test func theProgramIsNotNeeded() throws {
        try move(to: "debug/.build-id/01", as: "\(Fixture.buildIDText.dropFirst(2)).debug")
        try fixture.scratch.run(["rm", "program"])
        #expect(try names([fixture.scratch.path("debug")]) == Self.inlined)
        #expect(
            try names([fixture.scratch.path("debug")], path: "\(fixture.program) (deleted)")
                == Self.inlined)
    }

    @Test func withinTheRootOfAContainer() throws {
        try link()
        try fixture.scratch.run(["mkdir", "-p", "root/usr/bin", "root/usr/lib"])
        try fixture.scratch.run(["mv", "program", "program.debug", "root/usr/lib"])
        try fixture.scratch.run(["ln", "-s", "/usr/lib/program", "root/usr/bin/program"])
        let root = fixture.scratch.path("root")
        #expect(try names(root: root, path: "/usr/lib/program") == Self.inlined)
        // The link is absolute: in the container it leads to the container's file.
        try fixture.scratch.run(["mv", "root/usr/lib/program.debug", "root/usr/bin"])
        #expect(try names(root: root, path: "/usr/bin/program") == Self.inlined)
        #expect(try names(root: root, path: "/../../usr/bin/program") == Self.inlined)
    }

    @Test func anotherProgramsFileIsNotUsed() throws {
        try link()
        let other = try Fixture(["-O0", "-g", "-Wl,--build-id=0xffff"])
        try fixture.scratch.run(["cp", other.program, "program.debug"])
        // The last --build-id counts, which Fixture gives; so take the note out.
        #expect(try names() != Self.inlined)
        try other.scratch.run(["objcopy", "--remove-section=.note.gnu.build-id", "program"])
        try fixture.scratch.run(["cp", other.program, "program.debug"])
        #expect(try names() == ["? ?:?"])
    }

    @Test func withoutBuildIDTheChecksumDecides() throws {
        for name in ["program", "program.debug"] {
            try fixture.scratch.run(["objcopy", "--remove-section=.note.gnu.build-id", name])
        }
        try link()
        let symbolizer = {
            Symbolizer(modules: [fixture.module(buildID: [])], debugDirectories: [])
        }
        #expect(Fixture.text(try fixture.locations("mark_add", symbolizer())) == Self.inlined)
        try fixture.scratch.write(
            try fixture.scratch.read("program.debug") + [0], to: "program.debug")
        #expect(Fixture.text(try fixture.locations("mark_add", symbolizer())) == ["? ?:?"])
    }

    @Test(.enabled(if: Scratch.has("xz"))) func compressedSymbolTable() throws {
        try fixture.scratch.run(["objcopy", "--strip-debug", "program.debug", "mini"])
        try fixture.scratch.run(["xz", "mini"])
        try fixture.scratch.run([
            "objcopy", "--add-section=.gnu_debugdata=mini.xz", "program",
        ])
        #expect(try names() == ["shop::visit(int) ?:?"])
    }

    @Test(.enabled(if: Scratch.has("dwz"))) func sharedByDwz() throws {
        let other = try Fixture(["-O1", "-g"])
        try fixture.scratch.run(["cp", other.program, "other.debug"])
        try fixture.scratch.run(["dwz", "-m", "common.debug", "program.debug", "other.debug"])
        try link()
        #expect(try names() == Self.inlined)
    }

    @Test func linksOutOfTheDirectoryAreNotFollowed() throws {
        // The name in the section is no path.
        try move(to: "other")
        try fixture.scratch.run(["mkdir", "sub"])
        try fixture.scratch.run(["mv", "program", "sub/program"])
        try fixture.scratch.run([
            "sh", "-c", "printf '../other/program.debug\\0\\0\\0\\0\\0\\0' > link",
        ])
        try fixture.scratch.run(["objcopy", "--add-section=.gnu_debuglink=link", "sub/program"])
        let path = fixture.scratch.path("sub/program")
        #expect(try names(path: path) == ["? ?:?"])
    }

    /// libdw opens the file with the entries by itself.
    @Test func aFifoInPlaceOfASplitFileIsNotWaitedFor() throws {
        let split = try Fixture(["-O2", "-g", "-gsplit-dwarf"])
        try split.scratch.run(["sh", "-c", "rm -- *.dwo"])
        #expect(mkfifo(split.scratch.path("program-shop.dwo"), 0o600) == 0)
        let symbolizer = Symbolizer(modules: [split.module()], debugDirectories: [])
        let found = Fixture.text(try split.locations("mark_add", symbolizer))
        #expect(found == ["shop::visit(int) shop.cpp:6"])
    }

    /// In a process of its own, since servers are named in the environment.
    @Test(.enabled(if: isDebuginfodThere)) func fromAServer() async {
        await #expect(processExitsWith: .success) {
            let test = try DebugFileTests()
            let scratch = test.fixture.scratch
            try test.move(to: "buildid/\(Fixture.buildIDText)", as: "debuginfo")
            setenv("DEBUGINFOD_CACHE_PATH", scratch.path("cache"), 1)
            unsetenv("DEBUGINFOD_URLS")
            #expect(try test.names() == ["? ?:?"])
            #expect(access(scratch.path("cache"), F_OK) != 0)
            setenv("DEBUGINFOD_URLS", "file://\(scratch.path(""))", 1)
            #expect(try test.names() == Self.inlined)
        }
    }

    private static var isDebuginfodThere: Bool {
        guard let library = dlopen("libdebuginfod.so.1", RTLD_NOW) else { return false }
        dlclose(library)
        return true
    }
}
