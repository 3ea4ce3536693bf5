// SPDX-License-Identifier: MIT
import ArgumentParser
import Reports

enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case text, json
}

enum TraceFormat: String, ExpressibleByArgument, CaseIterable {
    case text, json
    case vppJSON = "vpp-json"
}

extension TraceReport.Order: ExpressibleByArgument {}

struct OutputOptions: ParsableArguments {
    @Option(help: "How to write it.") var format = OutputFormat.text
}

/// Depth of backtraces, checked once for all commands that take it.
struct DepthOption: ParsableArguments {
    @Option(help: "Frames to keep of each backtrace, 1 to 256.") var depth: Int?

    func validate() throws {
        if let depth, !(1...256).contains(depth) {
            throw ValidationError("--depth must be from 1 to 256")
        }
    }
}
