// SPDX-License-Identifier: MIT
import ArgumentParser
import HeapImage

/// The command line: one file a command.
///
/// Commands choose a process, ask HeapImage for a snapshot, make a report of it, and have it
/// written.
@main
struct Memctl: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "memctl",
        abstract: "Shows which backtraces hold a running program's memory.",
        discussion: """
            Start a program with `memctl run -- COMMAND`, or with LD_PRELOAD=libmemctl.so. Then, at \
            any time and without a restart: `memctl trace on`, `memctl show trace`, `memctl trace \
            off`.

            Exit status: 0 done, 1 failed, 2 something was found (with --check), 64 wrong usage.
            """,
        version: "memctl \(memctlVersion) (region version \(RegionHeader.version))",
        subcommands: [
            Run.self, List.self, Trace.self, Show.self, LeakCheck.self, Explain.self,
            WhatIs.self, Verify.self, Forget.self,
        ])

    /// Help and version go where reports go, so that it is noticed if they don't arrive.
    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch {
            guard exitCode(for: error) == .success else { exit(withError: error) }
            let text = fullMessage(for: error)
            if !text.isEmpty { Terminal.print(text) }
            exit()
        }
    }
}

/// Of the tool and the library, which come together.
let memctlVersion = "0.1.0"
