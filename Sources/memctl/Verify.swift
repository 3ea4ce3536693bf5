// SPDX-License-Identifier: MIT
import ArgumentParser
import HeapImage
import Reports

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Walk every structure of a process' heap, and say whether it is whole.",
        discussion: """
            The process is neither stopped nor written to, and may be stopped or hung. Exit status \
            2 if something is corrupt.
            """)

    @OptionGroup var target: TargetOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let entry = try target.entry()
        guard let pid = entry.livePid else { throw HeapImageError.gone(pid: entry.pid) }
        var check = try HeapCheck(
            LiveProcess(pid: pid), root: entry.header.heapRoot, isChild: entry.isShared,
            // A child that shares its parent's region has none of the stacks there.
            stackCount: { entry.isShared ? nil : try? entry.file.header().stacks.count },
            pause: Pause.briefly)
        let library = entry.header.libraryStart..<entry.header.libraryEnd
        if !check.findings.isEmpty, ProcessThreads.anyInside(library, of: pid) { check.excuse() }
        let report = VerifyReport(process: ReportedProcess(entry), check)
        Terminal.print { text in
            switch output.format {
            case .text: report.writeText(to: &text)
            case .json: report.writeJSON(to: &text)
            }
        }
        if !report.isClean { throw ExitCode(2) }
    }
}
