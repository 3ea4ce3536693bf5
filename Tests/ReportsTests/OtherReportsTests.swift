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
