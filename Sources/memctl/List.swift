// SPDX-License-Identifier: MIT
import ArgumentParser
import HeapImage
import Reports

struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List the processes that use the memctl heap.",
        discussion: """
            What processes left that were killed stays listed while it holds a trace; `memctl \
            forget` removes it. What holds none is removed here.
            """)

    @OptionGroup var output: OutputOptions

    func run() throws {
        let directory = RegionDirectory()
        var shown: [RegionEntry] = []
        for entry in directory.entries() {
            if RegionDirectory.isCertainlyEnded(entry), !entry.header.holdsTrace,
                (try? directory.remove(entry)) != nil
            {
                continue
            }
            shown.append(entry)
        }
        let report = ListReport(shown, now: bootTimeNanoseconds())
        Terminal.print { text in
            switch output.format {
            case .text: report.writeText(to: &text)
            case .json: report.writeJSON(to: &text)
            }
        }
    }
}
