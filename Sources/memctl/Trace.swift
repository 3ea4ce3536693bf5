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
        subcommands: [TraceOn.self, TraceOff.self, TraceReset.self])
}

/// What the three have in common: the region of a living process, opened to be steered.
private func steer(
    _ target: TargetOptions, _ body: (RegionFile, RegionHeader) throws -> Void
) throws -> ReportedProcess {
    let entry = try target.entry()
    guard entry.livePid != nil else { throw TargetError.notAlive(ReportedProcess(entry)) }
    let file = try RegionFile(path: entry.file.path, forWriting: true)
    let header = try file.header()
    try body(file, header)
    return ReportedProcess(entry)
}

struct TraceOn: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "on", abstract: "Account every allocation to its backtrace from now on.")

    @OptionGroup var target: TargetOptions
    @OptionGroup var depth: DepthOption

    func run() throws {
        let process = try steer(target) { file, header in
            // The depth is there before the first allocation that may ask for it.
            if let depth = depth.depth { try file.setDepth(UInt32(depth)) }
            try file.setCommands(header.commands &+ 1)
            try file.setArmed(true)
        }
        Terminal.print("trace on: process \(process.title)")
    }
}

struct TraceOff: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "off",
        abstract: "Stop accounting; what is traced is still followed until freed.")

    @OptionGroup var target: TargetOptions

    func run() throws {
        let process = try steer(target) { file, header in
            try file.setArmed(false)
            try file.setCommands(header.commands &+ 1)
        }
        Terminal.print("trace off: process \(process.title)")
    }
}

struct TraceReset: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reset",
        abstract: "Begin a new table; what was traced so far counts as untraced.")

    @OptionGroup var target: TargetOptions
    @OptionGroup var depth: DepthOption

    func run() throws {
        let process = try steer(target) { file, header in
            if let depth = depth.depth { try file.setDepth(UInt32(depth)) }
            try file.setFloor(header.stacks.count)
            try file.setCommands(header.commands &+ 1)
        }
        Terminal.print("trace reset: process \(process.title)")
    }
}
