// SPDX-License-Identifier: MIT
import ArgumentParser
import HeapImage
import Reports

struct Trace: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Turn tracing on or off in a running process.",
        discussion: """
            One word in a file that the process shares with memctl is changed: the process is not \
            stopped, and may be stopped or hung itself.
            """,
        subcommands: [
            TraceOn.self, TraceOff.self, TraceReset.self, TraceDeepen.self, TraceUndeepen.self,
        ])
}

struct TraceOn: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "on", abstract: "Account every allocation to its backtrace from now on.")

    @OptionGroup var target: TargetOptions
    @OptionGroup var tracing: TracingOptions

    func run() throws {
        let settings = tracing.settings
        let entry = try Steering.on(try Steering.living(target), settings)
        let how =
            settings.interval.map { ", one allocation per \(Size(bytes: $0.bytes)) bytes" } ?? ""
        let later = entry.isShared ? ", from its next allocation on" : ""
        Terminal.print("trace on\(how): process \(ReportedProcess(entry).title)\(later)")
        if entry.isShared, settings != TraceSettings() {
            Terminal.note("it has no region to keep options in before: give them once more then")
        }
    }
}

struct TraceOff: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "off",
        abstract: "Stop accounting; what is traced is still followed until freed.")

    @OptionGroup var target: TargetOptions

    func run() throws {
        let entry = try Steering.living(target)
        try Steering.off(entry)
        Terminal.print("trace off: process \(ReportedProcess(entry).title)")
    }
}

struct TraceReset: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reset",
        abstract: "Begin a new table; what was traced so far counts as untraced.")

    @OptionGroup var target: TargetOptions
    @OptionGroup var depth: DepthOption

    func run() throws {
        let entry = try Steering.living(target)
        try Steering.reset(entry, depth: depth.depth)
        Terminal.print("trace reset: process \(ReportedProcess(entry).title)")
    }
}
