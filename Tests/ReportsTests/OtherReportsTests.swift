// SPDX-License-Identifier: MIT
import HeapImage
import Testing

@testable import Reports

@Suite struct ListReportTests {
    private let report = ListReport([
        ListReport.Row(
            process: ReportedProcess(
                pid: 7, label: "7.1", name: "old", executable: "/bin/old", state: .exited,
                isTraced: false), uptimeNanoseconds: nil, usedBytes: nil, stacks: 4, file: "/r/7.1"),
        ListReport.Row(
            process: Sample.process, uptimeNanoseconds: 3_723_000_000_000, usedBytes: 123_456,
            stacks: 812, file: "/r/12"),
    ])

    @Test func text() {
        #expect(
            Output.text { report.writeText(to: &$0) } == """
                PID  NAME  UPTIME    USED  TRACE  STACKS  STATE
                 12  app   1h 02m  123456  on        812  alive
                7.1  old        -       -  off         4  exited

                """)
    }

    @Test func json() {
        #expect(
            Output.text { report.writeJSON(to: &$0) } == """
                [{"pid":12,"label":"12","name":"app","executable":"/usr/bin/app","state":"alive",\
                "traced":true,"uptime_ms":3723000,"used":123456,"stacks":812,"file":"/r/12",\
                "shares":null},\
                {"pid":7,"label":"7.1","name":"old","executable":"/bin/old","state":"exited",\
                "traced":false,"uptime_ms":null,"used":null,"stacks":4,"file":"/r/7.1",\
                "shares":null}]

                """)
    }

    @Test func aChildWithoutARegionIsSaid() {
        let report = ListReport([
            ListReport.Row(
                process: Sample.process, uptimeNanoseconds: 1_000_000_000, usedBytes: 5,
                stacks: 0, file: "/r/10", owner: 10)
        ])
        #expect(
            Output.text { report.writeText(to: &$0) }.hasSuffix("alive, shares 10's region\n"))
        #expect(Output.text { report.writeJSON(to: &$0) }.contains(#""shares":10}"#))
    }

    @Test func nobodyIsSaid() {
        #expect(
            Output.text { ListReport([]).writeText(to: &$0) }
                == "no process uses the memctl heap — start one with `memctl run -- COMMAND`\n")
    }
}

@Suite struct MemoryReportTests {
    private var report: MemoryReport {
        var pages = PageStats()
        (pages.tally.total, pages.tally.populated) = (262144, 1000)
        pages.tally.nodes = [900, 100]
        return MemoryReport(
            process: Sample.process, reserved: 1 << 30, used: 5000, usedCount: 9, tracedSlack: 70,
            untraced: 3000, cached: 11384, kept: 0, free: (1 << 30) - 16384, purgeable: 16384,
            purged: 32768, metadata: 8192, tags: 512, tracing: 100, region: 4096, arenas: 16,
            threads: 2,
            classes: [
                MemoryReport.ClassRow(
                    slotSize: 64, kind: .slots, liveSlots: 8, totalSlots: 256, spans: 1,
                    bytes: 16384, liveBytes: 512),
                MemoryReport.ClassRow(
                    slotSize: 0, kind: .huge, liveSlots: 1, totalSlots: 1, spans: 1, bytes: 4488,
                    liveBytes: 4488),
            ], pages: pages)
    }

    @Test func text() {
        #expect(
            report.text == """
                process 12 (app)

                     Bytes
                1073741824  reserved   address space for slots, 16 arenas
                   4096000  populated  pages with memory behind them
                      5000  used       9 live slots
                        70  slack      of traced slots; not known of 3000 untraced bytes
                     11384  cached     free slots in the spans of 2 threads
                         0  kept       of these in empty spans
                1073725440  free       slices of no span
                     16384  purgeable  of these not yet given back
                     32768  purged     given back so far
                      8192  metadata   the heap's own, 512 of them tags
                      4196  tracing    index and region file

                page stats: page-size 4K, total 262144, populated 1000, not-populated 261144,
                    unknown 0
                numa 0: 900 pages, 3686400 bytes
                numa 1: 100 pages, 409600 bytes

                Slot size  Live  Total  Spans  Bytes  Live bytes
                       64     8    256      1  16384         512
                     huge     1      1      1   4488        4488

                """)
    }

    @Test func refusalsAreSaid() {
        var report = report
        report.tracedSlack = nil
        report.pages.tally.nodes = []
        report.pages.nodesUnavailable = "EPERM"
        (report.pages.tally.unknown, report.pages.tally.populated) = (262144, 0)
        report.pages.unknownReason = "not allowed"
        report.pages.tally.swapped = 2
        report.unsettled = 3
        let text = report.text
        #expect(text.contains("numa: unavailable (EPERM)\n"))
        #expect(text.contains("populated 0, not-populated 0,\n    unknown 262144\n"))
        #expect(text.contains("    unknown: not allowed\n"))
        #expect(text.contains("         -  populated"))
        #expect(text.contains("         -  slack      not known: nothing is traced\n"))
        #expect(text.contains("3 spans changed all the while"))
        #expect(text.contains("2 are in swap"))
    }

    @Test func json() {
        let json = report.json
        #expect(
            json.contains(
                """
                "pages":{"page_size":4096,"total":262144,"populated":1000,"not_populated":261144,\
                "unknown":0,"swapped":0,"zero":0,"huge":0,"unknown_reason":null},"numa":{"unavailable":null,\
                "nodes":[{"node":0,"pages":900,"bytes":3686400},\
                {"node":1,"pages":100,"bytes":409600}]},"classes":[{"class":"slots",\
                "slot_size":64,"live":8,"total":256,"spans":1,"bytes":16384,"live_bytes":512},\
                {"class":"huge","slot_size":null,"live":1,"total":1,"spans":1,"bytes":4488,\
                "live_bytes":4488}],"unsettled":0}
                """))
        #expect(json.hasPrefix("{\"process\":{\"pid\":12,"))
    }
}

@Suite struct LeakReportTests {
    @Test func text() {
        var trace = Sample.trace
        trace.rows.removeLast()
        trace.rowCount = 1
        trace.total = Sample.counts(600, 0, each: 100)
        let report = LeakReport(window: .time(nanoseconds: 10_250_000_000), trace: trace)
        #expect(report.hasLeaks)
        #expect(
            Output.text { report.writeText(to: &$0, .init()) }.hasSuffix(
                "\nmade in 10.25 s and still live: 600 allocations, 60000 bytes, 1 stack\n"))
        #expect(
            Output.text { LeakReport.writeJSON([report], to: &$0) }.hasPrefix(
                "[{\"window_ms\":10250,\"leaked_bytes\":60000,\"leaked_usable\":67200,"
                    + "\"leaked_count\":600,\"process\":{"))
    }

    @Test func nothingFound() {
        var trace = Sample.trace
        (trace.rows, trace.rowCount, trace.total) = ([], 0, StackCounts())
        let report = LeakReport(window: .wholeRun, trace: trace)
        #expect(!report.hasLeaks)
        #expect(
            Output.text { report.writeText(to: &$0, .init()) } == """
                process 12 (app)
                made by the program and never freed: 0 allocations, 0 bytes, 0 stacks

                """)
    }
}

@Suite struct WritingTests {
    @Test func jsonEscapes() {
        let text = Output.text { output in
            JSONWriter.write(to: &output) { json in
                json.object { json in
                    json.field("a\"b", "line\nback\\slash\ttab\u{1}\u{7f}é")
                    json.field("none", String?.none)
                    json.field("large", UInt64.max)
                    json.field("no", false)
                    json.array("empty") { _ in }
                    json.array("two") { json in
                        json.value("x")
                        json.value("y")
                    }
                }
            }
        }
        #expect(
            text == """
                {"a\\"b":"line\\nback\\\\slash\\ttab\\u0001\\u007fé","none":null,\
                "large":18446744073709551615,"no":false,"empty":[],"two":["x","y"]}

                """)
    }

    @Test func outputIsHandedOnInPortions() {
        var portions: [Int] = []
        var output = Output { portions.append($0.count) }
        let line = String(repeating: "x", count: 1023)
        for _ in 0..<2000 { output.write(line: line) }
        output.flush()
        #expect(portions.count == 2)
        #expect(portions.reduce(0, +) == 2000 * 1024)
    }

    @Test(arguments: [
        (UInt64(0), "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"),
        (1 << 30, "1 GiB"), (150 << 20, "150 MiB"),
    ])
    func sizes(bytes: UInt64, text: String) {
        #expect(Layout.size(bytes) == text)
    }

    @Test(arguments: [
        (UInt64(0), "0s"), (59_999_999_999, "59s"), (61_000_000_000, "1m 01s"),
        (7_500_000_000_000, "2h 05m"), (100_000_000_000_000, "1d 03h"),
    ])
    func durations(nanoseconds: UInt64, text: String) {
        #expect(Layout.duration(nanoseconds) == text)
    }

    @Test(arguments: [(UInt64(0), 1), (9, 1), (10, 2), (UInt64.max, 20)])
    func numbersStandRight(number: UInt64, digits: Int) {
        #expect(Output.digits(number) == digits)
        #expect(Output.text { $0.write(number, width: 22) }.count == 22)
        #expect(Output.text { $0.write(number, width: 0) } == "\(number)")
    }
}
