// SPDX-License-Identifier: MIT
import ArgumentParser
import Reports

enum ReportFormat: String, ExpressibleByArgument, CaseIterable {
    case text, json, prometheus
}

/// How a report about memory is written.
struct ReportOptions: ParsableArguments {
    @Option(help: "How to write it.") var format = ReportFormat.text

    func print(
        text: (inout Output) -> Void, json: (inout Output) -> Void,
        prometheus: (inout Output) -> Void
    ) {
        Terminal.print { output in
            switch format {
            case .text: text(&output)
            case .json: json(&output)
            case .prometheus: prometheus(&output)
            }
        }
    }
}
