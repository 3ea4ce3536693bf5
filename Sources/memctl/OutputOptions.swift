// SPDX-License-Identifier: MIT
import ArgumentParser
import Reports

enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case text, json
}

enum TraceFormat: String, ExpressibleByArgument, CaseIterable {
    case text, json
    case vppJSON = "vpp-json"
    case folded
}

extension TraceReport.Order: ExpressibleByArgument {}
extension TraceColumns: ExpressibleByArgument {}

/// A size: digits, and K, M, G or T behind them.
struct Size: ExpressibleByArgument, Equatable, CustomStringConvertible {
    var bytes: UInt64

    init(bytes: UInt64) {
        self.bytes = bytes
    }

    init?(argument: String) {
        let digits = argument.prefix { $0.isASCII && $0.isNumber }
        let units = ["": 0, "K": 10, "M": 20, "G": 30, "T": 40] as [String: UInt64]
        guard let number = UInt64(digits),
            let shift = units[argument.dropFirst(digits.count).uppercased()],
            number <= UInt64.max >> shift
        else { return nil }
        bytes = number << shift
    }

    var description: String {
        let units = ["K", "M", "G", "T"]
        var (rest, unit) = (bytes, "")
        for next in units where rest >= 1024 && rest % 1024 == 0 {
            rest /= 1024
            unit = next
        }
        return "\(rest)\(unit)"
    }
}

/// How an allocation comes to be traced, checked once for all commands that take it.
struct TracingOptions: ParsableArguments {
    @OptionGroup var depthOption: DepthOption
    @Option(
        defaultAsFlag: Size(bytes: SampleInterval.usual.bytes), parsing: .next,
        help: ArgumentHelp(
            "Trace a sample: on the average one allocation per so many bytes.", valueName: "size"))
    var sample: Size?
    @Flag(name: .customLong("mmap"), help: "Trace mmap, munmap and mremap as well.")
    var maps = false

    var interval: SampleInterval? { sample.flatMap { SampleInterval(near: $0.bytes) } }
    /// For a program that is to be run.
    var asksForTrace: Bool { sample != nil || maps }
    var settings: TraceSettings {
        TraceSettings(depth: depthOption.depth, interval: interval, maps: maps)
    }

    func validate() throws {
        if sample != nil, interval == nil {
            throw ValidationError("--sample must be from \(SampleInterval.range)")
        }
    }
}

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
