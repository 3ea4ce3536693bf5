// SPDX-License-Identifier: MIT
import HeapImage
import Reports

/// Writes the text format that Prometheus scrapes (version 0.0.4).
///
///     var metrics = Prometheus(process)
///     metrics.gauge("memctl_heap_used_bytes", "Bytes in live slots.", 5000)
///     metrics.write(to: &output)
///
/// A metric is one HELP line, one TYPE line and its samples, which follow it at once, as the format
/// wants it. Base units are in the names; counters end in _total.
package struct Prometheus {
    package typealias Labels = [(name: String, value: String)]

    private let common: Labels
    private var lines: [String] = []

    package init(_ process: ReportedProcess) {
        common = [("pid", process.label), ("process", process.name)]
    }

    /// A number that goes up and down; none is written where it is not known.
    package mutating func gauge(_ name: String, _ help: String, _ value: UInt64?) {
        metric(name, "gauge", help, value.map { [([], "\($0)")] } ?? [])
    }

    package mutating func gauge(
        _ name: String, _ help: String, _ samples: [(labels: Labels, value: UInt64)]
    ) {
        metric(name, "gauge", help, samples.map { ($0.labels, "\($0.value)") })
    }

    package mutating func gauge(
        _ name: String, _ help: String, shares samples: [(labels: Labels, value: Share)]
    ) {
        metric(
            name, "gauge", help,
            samples.compactMap { sample in
                sample.value.permille.map { (sample.labels, Self.decimal($0)) }
            })
    }

    /// A number that only grows.
    package mutating func counter(
        _ name: String, _ help: String, _ samples: [(labels: Labels, value: UInt64)]
    ) {
        metric(name + "_total", "counter", help, samples.map { ($0.labels, "\($0.value)") })
    }

    private mutating func metric(
        _ name: String, _ type: String, _ help: String, _ samples: [(Labels, String)]
    ) {
        guard !samples.isEmpty else { return }
        lines.append("# HELP \(name) \(Self.escaped(help, quotes: false))")
        lines.append("# TYPE \(name) \(type)")
        for (labels, value) in samples {
            let text = (common + labels).map { "\($0.name)=\"\(Self.escaped($0.value))\"" }
            lines.append("\(name){\(text.joined(separator: ","))} \(value)")
        }
    }

    package func write(to output: inout Output) {
        for line in lines { output.write(line: line) }
    }

    /// Thousandths as a ratio: "0.125".
    private static func decimal(_ permille: UInt64) -> String {
        let digits = "\(permille % 1000)"
        return "\(permille / 1000)." + String(repeating: "0", count: 3 - digits.count) + digits
    }

    /// Backslash and line's end, and in a label's value the quote.
    static func escaped(_ text: String, quotes: Bool = true) -> String {
        var result = ""
        for character in text.unicodeScalars {
            switch character {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quotes: result += "\\\""
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }
}
