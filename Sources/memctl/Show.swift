// SPDX-License-Identifier: MIT
import ArgumentParser

struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what is in a process' heap.",
        subcommands: [
            ShowTrace.self, ShowMemory.self, ShowClasses.self, ShowThreads.self, ShowNuma.self,
            ShowSizes.self, ShowArenas.self, ShowTotal.self,
        ])
}
