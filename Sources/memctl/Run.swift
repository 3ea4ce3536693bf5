// SPDX-License-Identifier: MIT
import ArgumentParser
import Glibc
import HeapImage

struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a program with the memctl heap.",
        discussion: """
            memctl becomes the program: pid, signals and exit status are the program's own. Exit \
            status 127: no such program; 126: it can't be executed.
            """)

    @Flag(help: "Trace from the first allocation on.") var trace = false
    @Flag(help: "Keep the trace when the program exits, to be shown afterwards.") var keep = false
    @Option(help: "Memory that huge pages may back: \(HugePages.names).") var hugePages: HugePages?
    @OptionGroup var tracing: TracingOptions
    @Argument(parsing: .captureForPassthrough, help: "The program and its arguments.")
    var command: [String] = []

    func validate() throws {
        if command.isEmpty || command == ["--"] || command == ["--help"] || command == ["-h"] {
            if command.first == "--help" || command.first == "-h" {
                throw CleanExit.helpRequest(self)
            }
            throw ValidationError("say which program to run: memctl run -- COMMAND")
        }
        // What follows unknown options would be taken for the program.
        if let first = command.first, first != "--", first.hasPrefix("-") {
            throw ValidationError("unknown option \(first); put -- before the program")
        }
    }

    func run() throws {
        if let problem = RegionDirectory().problem(making: true) {
            Terminal.note(problem + "; the program can't be traced")
        }
        let program = Program(
            command, library: try Library.find(), trace: trace || tracing.asksForTrace, keep: keep,
            hugePages: hugePages, settings: tracing.settings)
        let error = program.replaceThisProcess()
        Terminal.note("\(error)")
        throw ExitCode(error.exitStatus)
    }
}

extension HugePages: ExpressibleByArgument {
    fileprivate static var names: String {
        "dense (where it is densely used), always (from the first allocation on) or never"
    }
}
