// SPDX-License-Identifier: MIT
import HeapImage
import Symbols

@testable import Reports

/// A small report made by hand.
enum Sample {
    static let process = ReportedProcess(
        pid: 12, name: "app", executable: "/usr/bin/app", state: .alive, isTraced: true)

    static let places = [
        Place(
            pc: 0x401182,
            locations: [
                Location(
                    function: "grow", file: "/src/pool.h", line: 9, isInlined: true,
                    module: "/usr/bin/app", moduleOffset: 0x1182),
                Location(
                    function: "parse", offset: 0x12, file: "/src/parse.c", line: 34,
                    module: "/usr/bin/app", moduleOffset: 0x1182),
            ]),
        Place(
            pc: 0x401200,
            locations: [
                Location(
                    function: "main", offset: 0x40, file: "/src/main.c", line: 60,
                    module: "/usr/bin/app", moduleOffset: 0x1200)
            ]),
        Place(pc: 0x7f001000, locations: [Location(module: "/lib/libz.so", moduleOffset: 0x1000)]),
        Place(pc: 0x7f002000, locations: [Location()]),
        Place(
            pc: 0x401300,
            locations: [
                Location(
                    function: "descend", offset: 0x1f, module: "/usr/bin/app", moduleOffset: 0x1300)
            ]),
    ]

    static func counts(_ allocs: UInt64, _ frees: UInt64, each bytes: UInt64) -> StackCounts {
        StackCounts(
            allocs: allocs, frees: frees, bytesIn: allocs * bytes, bytesOut: frees * bytes,
            usableIn: allocs * (bytes + 12), usableOut: frees * (bytes + 12))
    }

    static var trace: TraceReport {
        var total = counts(1000, 400, each: 100)
        total.add(counts(3, 0, each: 5000))
        return TraceReport(
            process: process,
            rows: [
                TraceReport.Row(
                    stack: 2, counts: counts(1000, 400, each: 100), sample: 0x7f12_a401_0010,
                    frames: [0, 1]),
                TraceReport.Row(
                    stack: 3, counts: counts(3, 0, each: 5000), frames: [4, 4, 4, 4, 2, 3],
                    isCut: true),
            ], places: places, total: total, used: TraceReport.Used(bytes: 90_000, count: 700))
    }
}
