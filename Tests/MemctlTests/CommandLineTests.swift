// SPDX-License-Identifier: MIT
import ArgumentParser
import HeapImage
import Reports
import Testing

@testable import memctl

/// What a command line is taken for, and the exit status of one that is wrong.
@Suite struct CommandLineTests {
    private func parse<Command: ParsableCommand>(
        _ type: Command.Type, _ arguments: String...
    ) throws -> Command {
        try #require(try Memctl.parseAsRoot(arguments) as? Command)
    }

    @Test(arguments: [
        ["bogus"], ["trace"], ["trace", "bogus"], ["trace", "on", "--depth", "0"],
        ["trace", "on", "--depth", "257"], ["trace", "on", "--depth", "x"], ["run"], ["run", "--"],
        ["run", "-x", "ls"], ["show", "trace", "--limit", "0"], ["show", "trace", "--frames", "0"],
        ["show", "trace", "--format", "xml"], ["show", "trace", "--sort", "name"],
        ["show", "trace", "-p", "1", "--file", "x"], ["show", "memory", "--format", "vpp-json"],
        ["forget"], ["forget", "1", "--all"], ["leak-check"], ["leak-check", "--for", "0"],
        ["leak-check", "--for", "10s", "--", "ls"], ["leak-check", "-p", "1", "--", "ls"],
        ["leak-check", "--for", "1s", "--format", "vpp-json"], ["list", "extra"],
        ["leak-check", "--for", "1s", "--format", "folded"],
        ["trace", "on", "--sample", "3"], ["trace", "on", "--sample", "2G"],
        ["trace", "off", "--sample"], ["trace", "deepen"], ["trace", "deepen", "x"],
        ["trace", "deepen", "3", "--leakers"], ["trace", "deepen", "3", "--depth", "0"],
        ["trace", "undeepen"], ["trace", "undeepen", "3", "--all"],
        ["show", "trace", "--columns", "all"], ["show", "trace", "--older-than", "x"],
        ["show", "trace", "--older-than", "1s", "--cumulative"],
        ["show", "trace", "--columns", "waste", "--cumulative"],
    ])
    func wrongUsageIs64(arguments: [String]) {
        do {
            var command = try Memctl.parseAsRoot(arguments)
            // A command with subcommands alone says which there are when it is run.
            try command.run()
            Issue.record("accepted: \(arguments)")
        } catch {
            let status = Memctl.exitCode(for: error).rawValue
            #expect(status == 64 || arguments == ["trace"])
        }
    }

    @Test(arguments: [
        ["--version"], ["--help"], ["help"], ["help", "show", "trace"], ["run", "--help"],
    ])
    func helpIsNoError(arguments: [String]) {
        do {
            var command = try Memctl.parseAsRoot(arguments)
            try command.run()
        } catch {
            #expect(Memctl.exitCode(for: error).rawValue == 0)
        }
    }

    @Test func failuresAre1() {
        #expect(Memctl.exitCode(for: HeapImageError.gone(pid: 1)).rawValue == 1)
        #expect(Memctl.exitCode(for: TargetError.none(ended: [])).rawValue == 1)
        #expect(
            Memctl.fullMessage(for: HeapImageError.notPreloaded(pid: 3))
                == "Error: process 3 does not use the memctl heap — start it with `memctl run -- COMMAND`"
        )
    }

    @Test func showTraceHasItsDefaults() throws {
        let command = try parse(ShowTrace.self, "show", "trace")
        #expect(command.view.rowLimit == 50)
        #expect(command.view.sort == nil)
        #expect(command.view.format == .text)
        #expect(command.view.frames == nil)
        #expect(!command.cumulative)
        let all = try parse(
            ShowTrace.self, "show", "trace", "--all", "--sort", "count", "--format", "vpp-json",
            "--cumulative", "-p", "nginx", "--frames", "3")
        #expect(all.view.rowLimit == nil)
        #expect(all.view.sort == .count)
        #expect(all.view.format == .vppJSON)
        #expect(all.target.process == "nginx")
        #expect(all.cumulative)
        let folded = try parse(ShowTrace.self, "show", "trace", "--format", "folded")
        #expect(folded.view.rowLimit == nil)
        let first = try parse(
            ShowTrace.self, "show", "trace", "--format", "folded", "--limit", "9")
        #expect(first.view.rowLimit == 9)
    }

    @Test(
        arguments: [
            (["--sample"], 19), (["--sample", "512K"], 19), (["--sample=1M"], 20),
            (["--sample", "500K"], 19), (["--sample", "700k"], 19), (["--sample", "800K"], 20),
            (["--sample", "64"], 6), (["--sample", "1G"], 30), ([], nil),
        ] as [([String], UInt32?)])
    func aSampleIsAPowerOfTwo(options: [String], exponent: UInt32?) throws {
        let command = try #require(
            try Memctl.parseAsRoot(["trace", "on", "-p", "3"] + options) as? TraceOn)
        #expect(command.tracing.settings.interval?.exponent == exponent)
        #expect(command.target.process == "3")
    }

    @Test func aProgramIsTracedAsAsked() throws {
        let command = try parse(Run.self, "run", "--sample=4K", "--mmap", "--depth", "9", "ls")
        #expect(command.command == ["ls"])
        let program = Program(
            command.command, library: "/l.so", trace: command.tracing.asksForTrace, keep: false,
            settings: command.tracing.settings)
        #expect(program.variables["MEMCTL_TRACE"] == "sampled:4096")
        #expect(program.variables["MEMCTL_TRACE_MMAP"] == "1")
        #expect(program.variables["MEMCTL_DEPTH"] == "9")
    }

    @Test(arguments: ["dense", "always", "never"])
    func aProgramHasHugePagesAsAsked(way: String) throws {
        let command = try parse(Run.self, "run", "--huge-pages", way, "ls")
        let program = Program(
            command.command, library: "/l.so", trace: false, keep: false,
            hugePages: command.hugePages)
        #expect(program.variables["MEMCTL_HUGE_PAGES"] == way)
    }

    @Test func aProgramHasNoUnknownHugePages() throws {
        #expect(throws: (any Error).self) {
            try parse(Run.self, "run", "--huge-pages", "sometimes", "ls")
        }
    }

    @Test func aProgramsOptionsAreItsOwn() throws {
        let command = try parse(Run.self, "run", "--trace", "--depth", "8", "ls", "--keep", "-l")
        #expect(command.trace)
        #expect(!command.keep)
        #expect(command.tracing.settings.depth == 8)
        #expect(command.command == ["ls", "--keep", "-l"])
        let separated = try parse(Run.self, "run", "--keep", "--", "prog", "--trace", "--", "x")
        #expect(separated.keep)
        #expect(!separated.trace)
        let program = Program(
            separated.command, library: "/l.so", trace: separated.trace, keep: separated.keep,
            settings: separated.tracing.settings)
        #expect(program.arguments == ["prog", "--trace", "--", "x"])
        #expect(program.variables["MEMCTL_KEEP"] == "1")
        #expect(program.variables["MEMCTL_TRACE"] == nil)
        #expect(program.variables["LD_PRELOAD"]?.split(separator: ":").first == "/l.so")
    }

    @Test func leakCheckTakesATimeOrAProgram() throws {
        let timed = try parse(LeakCheck.self, "leak-check", "--for", "10s", "-p", "12", "--check")
        #expect(timed.time?.quarters == 40)
        #expect(timed.check)
        let program = try parse(LeakCheck.self, "leak-check", "--", "ls", "-l")
        #expect(program.command == ["ls", "-l"])
    }

    @Test(arguments: [
        ("10s", 40), ("10", 40), ("0.5", 2), ("500ms", 2), ("1ms", 1), ("2m", 480), ("1h", 14400),
        ("", nil), ("s", nil), ("3x", nil), ("-1s", nil), ("0", nil), ("1e9", nil),
        ("999999h", nil),
        ("nan", nil),
    ])
    func timesToWatch(text: String, quarters: UInt64?) {
        #expect(WatchTime(argument: text)?.quarters == quarters)
    }
}

@Suite struct ChoiceTests {
    @Test func errorsListTheChoices() {
        let one = ReportedProcess(
            pid: 4, name: "a", executable: "/a", state: .alive, isTraced: false)
        let two = ReportedProcess(
            pid: 9, label: "9.1", name: "b", executable: "/b", state: .dead, isTraced: false)
        #expect(
            "\(TargetError.several(name: nil, [one, two]))" == """
                there are several processes — choose one with -p PID:
                    4 (a)
                    9.1 (b, ended abruptly)
                """)
        #expect("\(TargetError.noMatch(name: "x", []))".contains("start it with"))
        #expect("\(TargetError.none(ended: [two]))".hasSuffix("\n    9.1 (b, ended abruptly)"))
        #expect("\(TargetError.notAlive(two))".contains("has ended"))
    }

    @Test func birthsBeginAtAQuarter() {
        let clock = BirthClock(start: 1_000_000_000)
        #expect(clock.nextQuarter(now: 1_000_000_000) == 1)
        #expect(clock.nextQuarter(now: 1_249_000_000) == 2)
        #expect(clock.nextQuarter(now: 2_000_000_000) == 5)
        #expect(clock.time(of: 4) == 2_020_000_000)
        for now: UInt64 in [1_000_000_000, 1_234_567_890, 1_499_999_999] {
            #expect(clock.time(of: clock.nextQuarter(now: now)) > now)
        }
    }

    @Test func endingsAreSaid() {
        #expect(ProgramEnd(status: 0).remark == nil)
        #expect(ProgramEnd(status: 0).isSuccess)
        #expect(ProgramEnd(status: 3 << 8).remark == "ended with status 3")
        #expect(ProgramEnd(status: 9).remark == "was ended by signal 9 (Killed)")
        #expect(!ProgramEnd(status: 9).isSuccess)
    }

    @Test func startFailuresHaveTheShellsStatus() {
        #expect(ProgramError(name: "x", code: 2).exitStatus == 127)
        #expect(ProgramError(name: "x", code: 13).exitStatus == 126)
        #expect("\(ProgramError(name: "x", code: 2))".contains("no such program"))
    }
}

@Suite struct LibraryTests {
    @Test func theEnvironmentDecides() throws {
        #expect(try Library.find(executable: nil, override: "/etc/passwd") == "/etc/passwd")
        #expect(throws: LibraryError.notThere(["/nowhere/l.so"])) {
            try Library.find(executable: "/bin/sh", override: "/nowhere/l.so")
        }
    }

    @Test func placesAreNamedWhenItIsNotThere() {
        #expect(
            throws: LibraryError.notThere([
                "/nowhere/bin/../lib/libmemctl.so",
                "/nowhere/bin/memctl_CPreload.resources/libmemctl.so",
            ])
        ) {
            try Library.find(executable: "/nowhere/bin/memctl", override: nil)
        }
    }
}
