// SPDX-License-Identifier: MIT
import ArgumentParser
import HeapImage
import Reports

struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List the processes that use the memctl heap.",
        discussion: """
            What processes left that were killed stays listed while it holds a trace; `memctl \
            forget` removes it. What holds none is removed here. A forked child that was never traced \
            shares its parent's region.
            """)

    @OptionGroup var output: OutputOptions

    func run() throws {
        let directory = RegionDirectory()
        if let problem = directory.problem() { Terminal.note(problem) }
        var shown: [RegionEntry] = []
        let entries = directory.entries()
        let sharers = directory.sharers(of: entries)
        for entry in entries {
            // Nobody wants what holds no trace, unless a child that lives shares it.
            let isUseless =
                RegionDirectory.isCertainlyEnded(entry) && !entry.header.holdsTrace
                && !sharers.contains { $0.file.inode == entry.file.inode }
            if entry.isLeftover || isUseless, (try? directory.remove(entry)) != nil { continue }
            shown.append(entry)
        }
        shown += sharers
        noteOthers(directory.others())
        let report = ListReport(shown, now: bootTimeNanoseconds())
        Terminal.print { text in
            switch output.format {
            case .text: report.writeText(to: &text)
            case .json: report.writeJSON(to: &text)
            }
        }
    }

    private func noteOthers(_ others: [OtherRegion]) {
        guard let first = others.first else { return }
        let count = Layout.count(UInt64(others.count), "region", "regions")
        let kind =
            if case .otherVersion(let found, let expected) = first.reason {
                "of version \(found), memctl is of \(expected)"
            } else {
                "damaged or not yet whole"
            }
        Terminal.note(
            "\(count) not listed: \(first.file.path) is \(kind)"
                + " (memctl forget --all removes those that no process has)")
    }
}
