// SPDX-License-Identifier: MIT

/// Bytes in use: one number.
package struct TotalReport: Equatable, Sendable {
    package var process: ReportedProcess
    package var used: UInt64

    package init(process: ReportedProcess, used: UInt64) {
        self.process = process
        self.used = used
    }

    package func writeText(to output: inout Output) {
        output.write(line: "\(used)")
    }

    package func writeJSON(to output: inout Output) {
        process.writeReport(to: &output) { json in
            json.field("used", used)
        }
    }
}
