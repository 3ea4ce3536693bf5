// SPDX-License-Identifier: MIT
import HeapImage
import Reports
import Symbols
import Testing

@testable import Exports

@Suite struct FoldedStacksTests {
    private func report(_ rows: [TraceReport.Row]) -> TraceReport {
        func place(_ pc: UInt64, _ functions: String?...) -> Place {
            Place(
                pc: pc,
                locations: functions.map {
                    Location(function: $0, offset: pc, module: "/usr/bin/app", moduleOffset: pc)
                })
        }
        return TraceReport(
            process: ReportedProcess(
                pid: 12, name: "app", executable: "/usr/bin/app", state: .alive, isTraced: true),
            rows: rows,
            places: [
                place(0x10, "grow", "parse"), place(0x20, "main"), place(0x24, "main"),
                place(0x30, nil), place(0x40, "f(int; char)\u{1b}"),
            ], total: StackCounts())
    }

    private func row(_ frames: [Int32], count: UInt64, each bytes: UInt64) -> TraceReport.Row {
        TraceReport.Row(
            stack: 1,
            counts: StackCounts(
                allocs: count + 5, frees: 5, bytesIn: (count + 5) * bytes, bytesOut: 5 * bytes,
                usableIn: (count + 5) * bytes, usableOut: 5 * bytes), frames: frames)
    }

    private func text(
        _ rows: [TraceReport.Row], by order: TraceReport.Order = .bytes
    ) -> String {
        Output.text { FoldedStacks(report(rows), by: order).write(to: &$0) }
    }

    @Test func framesGoFromTheOutermostInwards() {
        #expect(text([row([0, 1], count: 3, each: 100)]) == "main;parse;grow 300\n")
        #expect(text([row([3, 1], count: 1, each: 7)]) == "main;app+0x30 7\n")
        #expect(text([row([4], count: 1, each: 7)]) == "f(int: char)\\u{1b} 7\n")
    }

    @Test func equalStacksAreOneAndTheLargestIsFirst() {
        let rows = [
            row([3, 1], count: 9, each: 20), row([0, 1], count: 3, each: 50),
            row([0, 2], count: 1, each: 100), row([0], count: 2, each: 90),
        ]
        #expect(text(rows) == "main;parse;grow 250\nmain;app+0x30 180\nparse;grow 180\n")
        #expect(
            text(rows, by: .count) == "main;app+0x30 9\nmain;parse;grow 4\nparse;grow 2\n")
        #expect(
            text(rows, by: .allocs) == "main;app+0x30 14\nmain;parse;grow 14\nparse;grow 7\n")
    }

    @Test func whatIsCountedElsewhereOrDeadIsLeftOut() {
        var part = row([0, 1], count: 1, each: 1)
        part.partOf = 1
        var mapped = row([0, 1], count: 1, each: 4096)
        mapped.isMapped = true
        #expect(text([part, mapped, row([0], count: 0, each: 10)]) == "")
    }

    @Test func whatIsNotWholeSaysSo() {
        var cut = row([1], count: 1, each: 4)
        cut.isCut = true
        var stopped = row([1], count: 1, each: 3)
        stopped.isStopped = true
        var full = row([], count: 1, each: 2)
        full.isOverflow = true
        #expect(
            text([cut, stopped, full, row([], count: 1, each: 1)]) == """
                (deeper than the depth kept);main 4
                (no unwind information beyond);main 3
                (stacks that found the table full) 2
                (no frames) 1

                """)
    }
}
