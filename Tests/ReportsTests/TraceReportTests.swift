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
                our own memory: region 0 B, index 0 B

                """)
    }

    @Test func whatTracingTakes() {
        var report = Sample.trace
        #expect(!report.text().contains("trace memory"))
        report.overhead.bytesPerStack = 108
        report.overhead.frameBytesPerStack = 38
        #expect(report.text().contains("\ntrace memory: 108 bytes a stack (38 of them frames)\n"))
        report.overhead.bytesPerTenObjects = 89
        let line =
            "\ntrace memory: 108 bytes a stack (38 of them frames), 8.9 bytes a live traced object\n"
        #expect(report.text().contains(line))
        (report.overhead.tracing, report.overhead.trails) = (240 << 10, 224 << 10)
        #expect(report.text().contains(": region 0 B, index 16 KiB, trails 224 KiB\n"))
        report.overhead.bytesPerStack = nil
        #expect(report.text().contains("\ntrace memory: 8.9 bytes a live traced object\n"))
        #expect(report.json.contains(#""frame_bytes_per_stack":38,"bytes_per_ten_objects":89"#))
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
                "overhead":{"region":0,"tracing":0,"trails":0,"heap":null,"bytes_per_stack":null,\
                "frame_bytes_per_stack":null,\
                "bytes_per_ten_objects":null}}

                """)
    }

    // MARK: Kinds of rows

    @Test func estimatesAreMarked() {
        var report = Sample.trace
        report.rows[0].estimate = Estimate(
            taken: 90, freed: 40, countVariance: 100, bytesVariance: 250_000)
        report.sampled = TraceReport.Sampled(
            counts: Sample.counts(1000, 400, each: 100),
            estimate: Estimate(taken: 90, freed: 40, countVariance: 100, bytesVariance: 250_000))
        report.total = Sample.counts(3, 0, each: 5000)
        let text = report.text()
        #expect(
            text.contains(
                "   ~60000     ~67200       ~600  0x7f12a4010010  ± 500 bytes, ± 10\n"))
        #expect(text.contains("    15000      15036          3  -\n"))
        #expect(
            text.contains(
                """
                traced live    15000 bytes requested, 15036 usable, 3 allocations
                sampled live   ~60000 bytes requested, ~67200 usable, ~600 allocations
                    ± 500 bytes, ± 10 allocations (standard error); 50 samples
                used           90000 bytes usable, 700 allocations

                """))
        #expect(!text.contains("untraced"))
        #expect(report.untraced == nil)
        #expect(
            report.json.contains(
                #""estimate":{"samples":50,"samples_taken":90,"stderr_bytes":500,"stderr_count":10}"#
            ))
    }

    @Test func mappingsHaveATableOfTheirOwn() {
        var report = Sample.trace
        report.rows[1].isMapped = true
        report.mapped = Sample.counts(3, 0, each: 4096)
        let text = report.text()
        #expect(
            text.contains("\nmappings\n\n    Bytes     Usable      Count  Sample  Traceback\n"))
        #expect(
            text.contains(
                "mapped live    12288 bytes, 3 mappings (address space, beside the heap)\n"))
        #expect(report.json.contains(#""kind":"mmap""#))
    }

    @Test func partsFollowTheirRow() {
        var report = Sample.trace
        report.rows[0].isDeepened = true
        report.rows[1].partOf = 2
        report.rowCount = 1
        let text = report.text(.init(showsIDs: true))
        #expect(
            text.contains("   ID      Bytes     Usable      Count  Sample          Traceback\n"))
        #expect(text.contains("    2      60000      67200        600  0x7f12a4010010  deepened\n"))
        #expect(
            text.contains("    3      15000      15036          3  -               part of 2\n"))
        #expect(text.contains("\n1 stack\n"))
    }

    @Test func lifetimesAndWasteFitTheTerminal() {
        var report = Sample.trace
        report.rows[0].counts.lifetimes = 1000
        report.rows[0].counts.temporary = 390
        report.rows[0].pinned = 12345
        let lifetimes = report.text(.init(columns: .lifetimes, frameLimit: 1))
        #expect(
            lifetimes.contains(
                """
                    Bytes      Alloc       Free   Lifetime  Temporary  Share  Traceback
                    60000       1000        400     0.62 s        390    39%
                """))
        let waste = report.text(.init(columns: .waste, frameLimit: 1))
        #expect(
            waste.contains(
                """
                    Bytes     Usable      Waste  Share     Pinned      Count  Traceback
                    60000      67200       7200    11%      12345        600
                    #0   grow pool.h:9 (inlined)
                """))
        #expect(waste.contains("    15000      15036         36     1%          -          3\n"))
        for text in [lifetimes, waste] {
            #expect(text.split(separator: "\n").allSatisfy { $0.count <= 80 })
        }
    }

    @Test func aFilterIsNamed() {
        var report = Sample.trace
        report.filter = "older than 60 s"
        let text = report.text()
        #expect(text.contains("live, older than 60 s: 75000 bytes requested, 82236 usable, 603 "))
        #expect(!text.contains("untraced"))
    }

    @Test func ordersAreByWhatTheySay() {
        let counts = StackCounts(
            allocs: 9, frees: 4, bytesIn: 100, bytesOut: 40, usableIn: 130, usableOut: 50,
            lifetimes: 8, temporary: 3)
        let keys = TraceReport.Order.allCases.map { order in
            let key = order.keys(counts)
            return [key.first, key.second]
        }
        #expect(keys == [[60, 5], [5, 60], [9, 60], [3, 60], [20, 60]])
    }

    @Test(
        arguments: [
            (60, nil, 0, 40), (nil, 60, 40, UInt64.max), (0, 100, 0, 280), (100, 100, 0, 0),
        ] as [(UInt64?, UInt64?, UInt64, UInt64)])
    func agesBecomeBirths(older: UInt64?, younger: UInt64?, first: UInt64, end: UInt64) {
        // Births count from 30 s after boot; it is 100 s after boot: tick 280.
        let filter = SlotFilter(
            olderThan: older.map { $0 * 1_000_000_000 },
            youngerThan: younger.map { $0 * 1_000_000_000 }, thread: nil,
            birthsFrom: 30_000_000_000, now: 100_000_000_000)
        #expect(filter.births == first..<end)
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
