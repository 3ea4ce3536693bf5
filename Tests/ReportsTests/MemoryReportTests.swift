// SPDX-License-Identifier: MIT
import Glibc
import HeapImage
import Testing

@testable import Reports

@Suite struct MemoryReportTests {
    private var report: MemoryReport {
        MemoryReport(
            Sample.process, MemorySample.reading(),
            StackCounts(
                allocs: 1, frees: 0, bytesIn: 2930, bytesOut: 0, usableIn: 3000, usableOut: 0)
        )
    }

    @Test func text() {
        #expect(
            report.text == """
                process 12 (app)

                               Bytes  Populated
                reserved     2097152    1146880  for slots, 1 arena
                used         1104128    1104128  105 live slots
                  slack           70             of traced; 1101128 untraced
                cached         91904      34560  in spans of 2 threads, not live
                  kept         32768             in empty spans
                free          901120       8192  slices of no span
                  purgeable    16384             not yet given back
                  purged           0             given back so far
                metadata       69632      12288  our own structures
                  tags             0             words of slots in traced spans
                  tracing       4096             its index, and trails of threads
                region             0          0  the file shared with memctl
                not malloc   1118208      28672
                  files         8192       8192  program, libraries, other files
                  stack        61440      20480  of the first thread
                  anonymous  1048576          0  threads' stacks, mapped memory
                RSS                     1187840  what the kernel counts
                  peak                  1228800  of the process (VmHWM)

                used + slack + cached + free + metadata + region + not malloc = RSS:
                    1104058 + 70 + 34560 + 8192 + 12288 + 0 + 28672 = 1187840
                    RSS 1187840, remainder 0

                page stats: page-size 4K, total 512, populated 280, not-populated 232, unknown 0
                    of the not populated 8 are in swap
                    of the not populated 1 is the page of zeros
                    of the populated 256 are in huge pages
                numa 0: 6 pages, 24576 bytes
                numa 1: 274 pages, 1122304 bytes

                """)
    }

    /// What is live, what is not, and what is not the heap's: all of it, once.
    @Test func theSumIsTheResidentSize() {
        #expect(report.populatedSum == 290 * 4096)
        #expect(report.remainder == 0)
        #expect(report.reserved.bytes == 2 << 20)
        #expect(report.used.bytes + report.cached.bytes + report.free.bytes == 2 << 20)
        #expect(report.others[.files]?.populated == 2 * 4096)
        #expect(report.others[.stack]?.populated == 5 * 4096)
        #expect(report.others[.anonymous]?.populated == 0)
        let classes = report.classes
        #expect(classes.reduce(0) { $0 + $1.liveBytes } == report.used.bytes)
        #expect(
            classes.reduce(0) { $0 + $1.populated } == report.used.populated
                + report.cached.populated)
    }

    @Test func refusalsAreSaid() {
        var pages = MemorySample.pages()
        pages.refusal = EPERM
        var report = MemoryReport(
            Sample.process, MemorySample.reading(pages), StackCounts())
        #expect(report.text.contains("\nnuma: unavailable (EPERM)\n"))
        #expect(report.text.contains("not known: nothing is traced"))
        #expect(report.remainder == 0)
        report.unsettled = 3
        #expect(report.text.contains("3 spans changed all the while"))
    }

    @Test func withoutPermissionNothingIsMadeUp() {
        var pages = RecordedPages()
        pages.add(0, pages: 1 << 20, .unknown)
        pages.unknownReason = "not allowed to read the memory of process 12"
        let report = MemoryReport(
            Sample.process, MemorySample.reading(pages), StackCounts())
        #expect(report.text.contains("sum of the populated: not known"))
        #expect(report.text.contains("populated 0, not-populated 0, unknown 512\n"))
        #expect(report.text.contains("    unknown: not allowed"))
        #expect(report.json.contains("\"populated\":null"))
    }

    @Test func json() {
        let json = report.json
        #expect(json.hasPrefix("{\"process\":{\"pid\":12,"))
        #expect(
            json.contains(
                """
                "pages":{"page_size":4096,"total":512,"populated":280,"not_populated":232,\
                "unknown":0,"swapped":8,"zero":1,"huge":256,"unknown_reason":null},\
                "numa":{"unavailable":null,"nodes":[{"node":0,"pages":6,"bytes":24576},\
                {"node":1,"pages":274,"bytes":1122304}]}
                """))
    }

    /// However many digits there are.
    @Test func linesFitTheScreen() {
        var report = report
        report.reserved = .init(1 << 46, populated: 1 << 46)
        report.used = .init(1 << 46, populated: 1 << 45)
        report.others[.anonymous] = .init(1 << 46, populated: 1 << 44)
        report.tracedSlack = 1 << 44
        report.pages.tally.total = 1 << 40
        report.pages.tally.populated = 1 << 39
        report.pages.unknownReason = String(repeating: "word ", count: 40)
        report.pages.tally.unknown = 1
        for line in report.text.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
    }
}

@Suite struct ClassesReportTests {
    @Test func text() {
        let report = ClassesReport(Sample.process, MemorySample.reading()) { Int($0.live) }
        #expect(
            Output.text { report.writeText(to: &$0) } == """
                process 12 (app)

                Slot size  Live  Total     Made  Spans    Bytes  Live bytes  Frag %  Free run
                       64   100    256  1000000      1    16384        6400    60.9       100
                     8192     3      8        5      1    65536       24576    50.0         3
                    large     1      2        3      2    65536       24576     0.0         -
                     huge     1      1        1      1  1048576     1048576     0.0         -
                      all   105    267  1000018      5  1196032     1104128     3.0         -

                """)
    }

    /// However many digits there are: sizes get units first, then counts.
    @Test func linesFitTheScreen() {
        var row = ClassesReport.Row(slotSize: 65536, kind: .slots)
        (row.liveSlots, row.totalSlots, row.spans) = (1_234_567, 2_000_000, 12345)
        (row.bytes, row.liveBytes, row.requests.succeeded) = (1 << 46, 1 << 45, 1 << 20)
        var report = ClassesReport(process: Sample.process, rows: [row])
        var text = Output.text { report.writeText(to: &$0) }
        #expect(text.contains("  64T ") && text.contains(" 1234567 "), "\(text)")
        report.rows[0].requests.succeeded = 123_456_789_012_345
        report.rows[0].largestFreeRun = 1 << 40
        report.rows[0].liveSlots = 1 << 50
        text = Output.text { report.writeText(to: &$0) }
        #expect(text.contains(" 123T ") && text.contains(" 2.0M "), "\(text)")
        for line in text.split(separator: "\n") { #expect(line.count <= 80, "\(line)") }
    }

    @Test func countsInThousands() {
        let counts: [UInt64] = [0, 9999, 10_000, 99_999, 999_999, 1_000_000, .max]
        #expect(
            counts.map(Layout.thousands)
                == ["0", "9999", "10.0k", "99.9k", "999k", "1.0M", "18.4E"])
    }
}

@Suite struct ThreadsReportTests {
    private static let topology = NodeTopology(nodes: [0, 1], nodeOfProcessor: [0: 0, 1: 1])

    private static func report(_ pages: RecordedPages, _ topology: NodeTopology) -> ThreadsReport {
        let threads = ProcessThreads([
            .init(
                tid: 501, innerTid: 1001, processor: 0, name: "main", stackPointer: 0,
                programCounter: 0)
        ])
        return ThreadsReport(
            Sample.process, MemorySample.reading(pages), threads, topology)
    }

    @Test func text() {
        let report = Self.report(MemorySample.pages(), Self.topology)
        #expect(
            Output.text { report.writeText(to: &$0) } == """
                process 12 (app)

                No  TID  Name           Spans     Used  Cached  Remote  Pages  Home
                 1  501  main               1     6400    9984       0      4     0
                 2    -  (ended)            1    24576   40960   16384     12     -
                 -    -  (large, huge)      3  1073152   40960       0    262     -

                thread 1: numa 0: 4, remote 0 pages
                thread 2: numa 0: 0, numa 1: 12
                no thread: numa 0: 0, numa 1: 262

                """)
    }

    /// Its processor moved to another node: all its pages are remote now.
    @Test func pagesOnOtherNodesAreRemote() {
        let moved = NodeTopology(nodes: [0, 1], nodeOfProcessor: [0: 1])
        let report = Self.report(MemorySample.pages(), moved)
        #expect(report.rows[0].homeNode == 1)
        #expect(report.rows[0].remotePages == 4)
        #expect(report.rows[1].remotePages == nil)
    }

    @Test func sumsAreTheHeaps() {
        let report = Self.report(MemorySample.pages(), Self.topology)
        #expect(report.rows.reduce(0) { $0 + $1.used } == MemorySample.walk.usedBytes)
    }
}

@Suite struct NumaReportTests {
    private static func report(
        _ order: NumaReport.Order, nodes: Int32, policies: String = ""
    ) -> NumaReport {
        let topology = NodeTopology(nodes: Array(0..<Int(nodes)), nodeOfProcessor: [:])
        return NumaReport(
            Sample.process, MemorySample.reading(MemorySample.pages(nodes: nodes)), by: order,
            topology, threads: ProcessThreads(),
            policies: NodePolicies(Array(policies.utf8)))
    }

    @Test func arenasOfTwoNodes() {
        let report = Self.report(
            .arena, nodes: 2,
            policies: "00100000 interleave:0-1 anon=5 N0=3\n00800000 bind:1 anon=256\n")
        #expect(
            Output.text { report.writeText(to: &$0) } == """
                process 12 (app)

                Arena          Pages  Node 0  Node 1  Policy
                0x100000          24       6      18  interleave:0-1
                huge 0x800000    256       0     256  bind:1
                metadata           3       3       0  -
                all              283       9     274  -

                """)
    }

    @Test(arguments: NumaReport.Order.allCases)
    func eightNodesFitTheScreen(order: NumaReport.Order) {
        let report = Self.report(order, nodes: 8)
        for line in Output.text({ report.writeText(to: &$0) }).split(separator: "\n") {
            #expect(line.count <= 80, "\(line)")
        }
        #expect(report.total.nodes.reduce(0, +) == report.total.populated)
    }

    @Test func processorsAndNodesAreListed() {
        #expect(NodeTopology.numbers(in: "0-3,8,10-11\n") == [0, 1, 2, 3, 8, 10, 11])
        #expect(NodeTopology.numbers(in: "\n").isEmpty)
        #expect(NodeTopology.numbers(in: "5-2,x,1-2-3,0-99999999").isEmpty)
        #expect(!NodeTopology().nodes.isEmpty)
    }
}

@Suite struct MapReportTests {
    @Test func text() {
        let report = MapReport(Sample.process, MemorySample.reading(), isWhole: true)
        #expect(
            Output.text { report.writeText(to: &$0) } == """
                process 12 (app)

                Start   Size  Page  Pages  Absent  Huge  Swap  Zero  Free %  What
                100000    1M    4K     24     232     0     8     1    43.5  arena
                    numa 0: 6, numa 1: 18
                800000    1M    4K    256       0   256     0     0     0.0  huge
                    numa 1: 256
                900000    1M    4K      0     256     0     0     0          anonymous
                a00000   64K    4K      3      13     0     0     0          metadata
                    numa 0: 3
                c00000    8K    4K      2       0     0     0     0          app
                    numa 0: 2
                d00000   56K    4K      5       9     0     0     0          [stack]
                    numa 0: 5
                d0e000    4K    4K      0       1     0     0     0          metadata
                d0f000    4K    4K      0       1     0     0     0          [stack]
                all     3.1M          290     512   256     8     1
                sum of the rows: 1187840 bytes
                RSS: 1187840, remainder 0

                """)
        #expect(report.remainder == 0)
    }

    @Test func namesGiveWay() {
        let report = MapReport(
            process: Sample.process,
            rows: [
                .init(
                    range: 0x7fff_0000_0000..<0x7fff_0000_1000, kind: .file,
                    name: "/" + String(repeating: "x", count: 200))
            ])
        for line in Output.text({ report.writeText(to: &$0) }).split(separator: "\n") {
            #expect(line.count <= 80, "\(line)")
        }
    }
}

@Suite struct SizesAndArenasTests {
    @Test func sizes() {
        var small = SizesReport.Row(slotSize: 64)
        (small.live, small.liveBytes) = (10, 640)
        for size in [50, 60, 64] as [UInt64] {
            small.add(TaggedSlot(address: 1, stack: 2, usable: 64, requested: size, birth: 0))
        }
        var large = SizesReport.Row(slotSize: 0)
        (large.live, large.liveBytes) = (1, 40960)
        let report = SizesReport(process: Sample.process, rows: [small, large])
        #expect(
            Output.text { report.writeText(to: &$0) } == """
                process 12 (app)

                Slot size  Live  Traced  Requests  Mean  Slack %  Share of live
                       64    10       3    50..64    58      9.4  @@@@@@@@@@@@@@@@@@@@
                    large     1       0         -     -        -  @@
                      all    11       3    50..64    58      9.4

                requests are known of traced slots only: 3 of 11

                """)
    }

    @Test func arenas() {
        let report = ArenasReport(Sample.process, MemorySample.walk)
        #expect(
            Output.text { report.writeText(to: &$0) } == """
                process 12 (app)

                Name               In use    Total  Succeed  Fail
                slices             147456  1048576        0     0
                  arena 0x100000   147456  1048576        -     -
                huge              1048576  1048576        0     0
                metadata            69632    69632        -     -
                class 48                0        0        9     0
                class 64             6400    16384  1000000     0
                class 8192          24576    65536        5     2
                class large         24576    65536        3     0
                class huge        1048576  1048576        1     4

                succeed, fail: requests for slices, mappings of huge slots, and slots
                huge pages: dense (MEMCTL_HUGE_PAGES)

                """)
    }
}
