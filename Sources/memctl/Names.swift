// SPDX-License-Identifier: MIT
import HeapImage
import Symbols

/// Names for the frames of a process, made from what its region says was loaded.
struct Names {
    private let symbolizer: Symbolizer

    init(_ entry: RegionEntry, _ modules: [ModuleRecord]) {
        let map = PerfMap(contentsOf: "/tmp/perf-\(entry.header.pid).map", root: entry.root)
        symbolizer = Symbolizer(
            modules: modules.map {
                Module(
                    path: $0.path, buildID: $0.buildID, start: $0.start, end: $0.end, bias: $0.bias,
                    firstEpoch: $0.firstEpoch, lastEpoch: $0.lastEpoch)
            },
            root: entry.root, perfMap: map, processID: entry.livePid)
    }

    func callAsFunction(_ pc: UInt64, _ epoch: UInt32) -> [Location] {
        symbolizer.locations(ofReturnAddress: pc, epoch: epoch)
    }

    /// Says which files gave no names, beside the report.
    func noteProblems() {
        let problems = symbolizer.problems
        for problem in problems.prefix(5) { Terminal.note(problem) }
        if problems.count > 5 { Terminal.note("and \(problems.count - 5) more like these") }
    }
}
