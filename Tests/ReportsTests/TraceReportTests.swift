// SPDX-License-Identifier: MIT
import HeapImage
import Symbols
import Testing

@testable import Reports

@Suite struct TraceReportTests {
    @Test func theTable() {
        #expect(
            Sample.trace.text() == """
                process 12 (app)

                    Bytes     Usable      Count  Sample          Traceback
                    60000      67200        600  0x7f12a4010010
                    #0   grow pool.h:9 (inlined)
                         parse+0x12 parse.c:34 (app)
                    #1   main+0x40 main.c:60 (app)
                    15000      15036          3  -
                    #0   descend+0x1f (app)
                    ... repeated 4 times
                    #4   0x1000 (libz.so)
                    #5   0x7f002000
                    ... deeper than the depth kept

                2 stacks
                traced live    75000 bytes requested, 82236 usable, 603 allocations
                untraced live  7764 bytes usable, 97 allocations
                traced live + untraced live = used:
                    82236 + 7764 = 90000 bytes
                    603 + 97 = 700 allocations
                not recorded: nothing
                our own memory, in no row: region 0 B, index 0 B

                """)
    }

    @Test func theCumulativeTable() {
        let text = Sample.trace.text(.init(columns: .cumulative, frameLimit: 1))
        #expect(
            text.hasPrefix(
                """
                process 12 (app)

                    Bytes      Alloc       Free       Live  Module+offset
                    60000       1000        400        600  app+0x1182
                    #0   grow pool.h:9 (inlined)
                         parse+0x12 parse.c:34 (app)
                    ... 1 more frame
                    15000          3          0          3  app+0x1300
                    #0   descend+0x1f (app)
                    ... repeated 4 times
                    ... 2 more frames

                2 stacks

                """))
    }

    @Test func aDeadProcessHasNothingToCompareWith() {
        var report = Sample.trace
        report.used = nil
        report.usedUnknown = "process 12 has ended"
        report.process.state = .dead
        let text = report.text()
        #expect(text.hasPrefix("process 12 (app, ended abruptly)\n"))
        #expect(
            text.contains(
                "traced live + untraced live = used: not compared — process 12 has ended\n"))
        #expect(!text.contains("untraced live  "))
        #expect(report.untraced == nil)
    }

    @Test func whatIsMissingIsSaid() {
        var report = Sample.trace
        report.missing.overflowStacks = 3
        report.missing.untaggedAllocs = 1
        report.missing.cutStacks = 1
        report.missing.stoppedStacks = 2
        #expect(
            report.text().contains(
                """
                not recorded:
                    3 stacks found the table full: counted in the row without frames
                    1 allocation could not be tagged for want of memory: untraced
                    1 stack was deeper than the depth kept: outer frames are missing
                    2 stacks end at a frame without unwind information

                """))
    }

    @Test func aSumThatCantBeIsNotPrinted() {
        var report = Sample.trace
        report.used = TraceReport.Used(bytes: 10, count: 1)
        report.moved = 5
        let text = report.text()
        #expect(text.contains("not compared — the process allocates too fast"))
        #expect(text.contains("the process made 5 allocations and frees while it was read"))
    }

    @Test func neverTracedSaysHowTo() {
        var report = Sample.trace
        report.rows = []
        report.wasTraced = false
        report.total = StackCounts()
        #expect(
            report.text() == """
                process 12 (app)

                tracing was never on — `memctl trace on -p 12` starts it
                used           90000 bytes, 700 allocations

                """)
    }

    @Test func aLimitIsSaid() {
        var report = Sample.trace
        report.rowCount = 812
        #expect(report.text().contains("2 of 812 stacks; --all shows all\n"))
    }

    @Test func colourIsOnlyAddedOnWish() {
        #expect(!Sample.trace.text().contains("\u{1b}"))
        #expect(Sample.trace.text(.init(isColoured: true)).contains("\u{1b}[1m"))
    }

    @Test func linesFitTheTerminalWhereNamesAllow() {
        var report = Sample.trace
        report.places[1].locations[0].function = String(repeating: "long_name_", count: 5)
        report.places[1].locations[0].file = "/src/a_file_with_a_long_name.cpp"
        let lines = report.text().split(separator: "\n")
        #expect(lines.allSatisfy { $0.count <= 80 })
        #expect(lines.contains("           a_file_with_a_long_name.cpp:60 (app)"))
    }

    @Test func namesCantSteerTheTerminal() {
        var report = Sample.trace
        report.process.name = "a\u{1b}[2Jb\n"
        report.places[1].locations[0].function = "x\u{202e}y"
        let text = report.text()
        #expect(!text.contains("\u{1b}"))
        #expect(!text.contains("\u{202e}"))
        #expect(text.hasPrefix("process 12 (a\\u{1b}[2Jb\\u{a})\n"))
        #expect(text.contains("x\\u{202e}y"))
    }

    @Test func json() {
        var report = Sample.trace
        report.rows.removeLast()
        report.rows[0].frames = [1]
        #expect(
            report.json == """
                {"process":{"pid":12,"label":"12","name":"app","executable":"/usr/bin/app",\
                "state":"alive","traced":true},"rows":[{"stack":2,"bytes":60000,"usable":67200,\
                "count":600,"allocs":1000,"frees":400,"waste":7200,"pinned":null,\
                "mean_lifetime_ms":0,"temporary":0,"sample":"0x7f12a4010010","kind":"heap",\
                "part_of":null,"deepened":false,"estimate":null,"cut":false,\
                "stopped":false,"overflow":false,"frames":[{"pc":"0x401200","function":"main",\
                "offset":64,"file":"/src/main.c","line":60,"module":"/usr/bin/app",\
                "module_offset":"0x1200","inlined":false}]}],"not_recorded":{"overflow_stacks":0,\
                "untagged_allocs":0,"cut_stacks":0,"stopped_stacks":0,"misplaced_frees":0,\
                "missed_maps":0},"totals":{"stacks":2,\
                "shown":1,"traced_bytes":75000,"traced_usable":82236,"traced_count":603,\
                "untraced_usable":7764,"untraced_count":97,"used_usable":90000,"used_count":700,\
                "used_unknown":null,"moved":0,"mapped_bytes":0,"mapped_count":0,"sampled_bytes":null,\
                "sampled_usable":null,"sampled_count":null,"estimate":null,"filter":null},\
                "overhead":{"region":0,"tracing":0,"heap":null,"bytes_per_stack":null,\
                "bytes_per_ten_objects":null}}

                """)
    }

    @Test func vppJSON() {
        var report = Sample.trace
        report.rows.removeLast()
        #expect(
            report.vppJSON == """
                [{"count":600,"bytes":60000,"sample":"0x7f12a4010010","traceback":[\
                "0x401182 grow pool.h:9 (inlined)","0x401182 parse+0x12 parse.c:34 (app)",\
                "0x401200 main+0x40 main.c:60 (app)"]}]

                """)
    }
}

@Suite struct FoldingTests {
    private func folded(_ frames: [Int32]) -> [String] {
        Folding.runs(of: frames).map { "\(Array(frames[$0.range]))x\($0.repeats)" }
    }

    @Test func runsAreSaidOnce() {
        #expect(folded([1, 2, 3]) == ["[1]x1", "[2]x1", "[3]x1"])
        #expect(folded([1, 1, 1, 2]) == ["[1]x3", "[2]x1"])
        #expect(folded([1, 2, 1, 2, 1, 2, 3]) == ["[1, 2]x3", "[3]x1"])
        #expect(folded([9, 1, 2, 3, 1, 2, 3]) == ["[9]x1", "[1, 2, 3]x2"])
    }

    @Test func whatSavesNoLineIsLeft() {
        #expect(folded([1, 1, 2]) == ["[1]x1", "[1]x1", "[2]x1"])
        #expect(folded([]) == [])
    }

    @Test func everyFrameIsCovered() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<500 {
            let frames = (0..<Int.random(in: 0..<40)).map { _ in
                Int32.random(in: 0..<3, using: &random)
            }
            let unfolded = Folding.runs(of: frames).flatMap { run in
                (0..<run.repeats).flatMap { _ in frames[run.range] }
            }
            #expect(unfolded == frames)
        }
    }
}
