// SPDX-License-Identifier: MIT
import HeapImage
import Symbols
import Testing

@testable import Reports

@Suite struct VerifyReportTests {
    private var check: HeapCheck {
        var check = HeapCheck()
        (check.counts.arenas, check.counts.threads, check.counts.slotSpans) = (2, 3, 40)
        (check.counts.large, check.counts.huge, check.counts.waiting) = (5, 1, 2)
        (check.counts.liveSlots, check.counts.freeSlots, check.counts.remoteSlots) = (900, 70, 4)
        (check.counts.tags, check.counts.pageMapEntries) = (12, 1)
        return check
    }

    private let head = """
        process 12 (app)

        arenas    2
        spans     40 of slots, 5 large, 1 huge, 2 waiting
        slots     900 live, 70 free, 4 freed by other threads
        tags      12
        page map  1 entry
        threads   3


        """

    @Test func clean() {
        let report = VerifyReport(process: Sample.process, check)
        #expect(report.text == head + "clean\n")
        #expect(report.isClean)
    }

    @Test func corrupt() {
        var check = check
        check.findings = [
            HeapFinding(
                kind: .listMark, place: .span(0x7f00), at: 0x7f40,
                what: "free list: slot 0x7f40 was written to after it was freed: 0x41 at 0x7f48,"
                    + " where its mark was"),
            HeapFinding(kind: .spanCounts, place: .span(0x7f00), at: 0, what: "3 of 4"),
        ]
        check.uncertain = [
            HeapFinding(kind: .threadSpan, place: .thread(2), at: 1, what: "a span of nobody")
        ]
        (check.unsettled, check.abandoned) = (1, 2)
        let report = VerifyReport(process: Sample.process, check)
        #expect(
            report.text == head + """
                span 0x7f00
                    free list: slot 0x7f40 was written to after it was freed: 0x41 at 0x7f48,
                      where its mark was
                    3 of 4

                Not counted, as threads that are inside the heap just now may account for it:
                thread 2
                    a span of nobody

                1 span changed all the while: lists not judged
                2 spans of threads of the parent process: lists not judged
                2 corrupt

                """)
        #expect(
            report.json.contains(
                #""corrupt":2,"findings":[{"kind":"list_mark","place":"span 0x7f00","at":"0x7f40","#
            ))
    }
}

@Suite struct WhatIsReportTests {
    private let thread = HeapThreadFact(number: 3, tid: 77, name: "worker")
    private var span: SpanFact {
        SpanFact(
            kind: .slots, base: 0x7f_0000_0000, size: 65536, slotSize: 64, slotCount: 1024,
            live: 58, arena: 0x7f_0000_0000, thread: thread)
    }

    @Test func aLiveSlot() {
        let slot = SlotFact(
            start: 0x7f_0000_0040, offset: 3, size: 64, state: .live, span: span,
            tag: TagFact(stack: 2, requested: 50, birth: 9))
        let answer = WhatIsReport.Answer(
            address: 0x7f_0000_0043, fact: .slot(slot), ageNanoseconds: 67_000_000_000,
            places: [Sample.places[0], Sample.places[1]],
            references: [
                WhatIsReport.Reference(
                    holder: .register, address: 0, value: 0x7f_0000_0048,
                    what: "register rbx of thread 77")
            ], referenceCount: 1)
        let report = WhatIsReport(process: Sample.process, answers: [answer], threadsMissing: 1)
        #expect(
            report.text == """
                process 12 (app)

                0x7f00000043
                    slot 0x7f00000040 + 3: live, 50 of 64 bytes
                    span 0x7f00000000, 64 KiB: 1024 slots of 64 bytes, 58 live
                    owner thread 3 (tid 77, worker)
                    arena 0x7f00000000
                    made 1m 07s ago by
                    #0   grow pool.h:9 (inlined)
                         parse+0x12 parse.c:34 (app)
                    #1   main+0x40 main.c:60 (app)
                    1 reference
                        register rbx of thread 77, to byte 8

                registers of 1 thread could not be read

                """)
        #expect(report.json.contains(#""slot":{"address":"0x7f00000040","offset":3,"usable":64,"#))
        #expect(
            report.json.contains(#""requested":50,"state":"live","traced":true,"age_ms":67000,"#))
    }

    @Test(arguments: [
        (SlotFact.State.free, "free, on the list of thread 3, 64 bytes"),
        (.remote, "freed by another thread, waits for thread 3, 64 bytes"),
        (.purged, "free, its pages given back, 64 bytes"),
        (.fresh, "never handed out, 64 bytes"),
    ])
    func aSlotThatIsNotLive(state: SlotFact.State, text: String) {
        let slot = SlotFact(start: 0x40, offset: 0, size: 64, state: state, span: span)
        let report = WhatIsReport(
            process: Sample.process,
            answers: [WhatIsReport.Answer(address: 0x40, fact: .slot(slot))])
        #expect(report.text.contains("slot 0x40 + 0: \(text)\n"))
        #expect(report.json.contains(#""state":"\#(state.rawValue)","traced":false"#))
    }

    /// What a process calls its files and threads can't write to the terminal.
    @Test func namesAreMadeSafe() {
        let mapping = Mapping(
            range: 0x1000..<0x3000, permissions: "rw-p", offset: 4096, inode: 3, name: "/a\u{1b}[2J"
        )
        let thread = ProcessThreads.Thread(
            tid: 9, innerTid: 9, name: "x\u{7}", stackPointer: 0x2000, programCounter: 0)
        let report = WhatIsReport(
            process: Sample.process,
            answers: [
                WhatIsReport.Answer(address: 0x1010, fact: .mapping(mapping, stackOf: nil)),
                WhatIsReport.Answer(address: 0x2010, fact: .mapping(mapping, stackOf: thread)),
            ])
        #expect(!report.text.unicodeScalars.contains { $0.value < 32 && $0 != "\n" })
        #expect(report.text.contains("/a\\u{1b}[2J + 0x1010"))
        #expect(report.text.contains("16 bytes above its stack pointer"))
    }

    @Test(arguments: [
        (0x2000 as UInt64, "16 bytes above its stack pointer"),
        (0x2800, "below its stack pointer: not in use"), (0, "which runs"),
        (0x9000, "which is on another now"),
    ])
    func whereOnItsStackAThreadIs(stackPointer: UInt64, text: String) {
        let thread = ProcessThreads.Thread(
            tid: 9, innerTid: 9, name: "x", stackPointer: stackPointer)
        let report = WhatIsReport(
            process: Sample.process,
            answers: [
                WhatIsReport.Answer(
                    address: 0x2010,
                    fact: .mapping(Mapping(range: 0x1000..<0x3000), stackOf: thread))
            ])
        #expect(report.text.contains("stack of thread 9 (x), \(text)\n"))
    }
}

@Suite struct ExplainReportTests {
    private static let mib: UInt64 = 1 << 20

    private func report(
        _ now: [Residency.Part: UInt64], before: [Residency.Part: UInt64]? = nil,
        isTraced: Bool = false
    ) -> ExplainReport {
        func residency(_ parts: [Residency.Part: UInt64]) -> Residency {
            let bytes = parts.mapValues { $0 * Self.mib }
            let mappings = Residency.Group(part: .mappings, name: "without a name")
            return Residency(
                resident: bytes.values.reduce(4096, +), bytes,
                groups: bytes[.mappings].map { [mappings: $0] } ?? [:])
        }
        return ExplainReport(
            process: Sample.process, now: residency(now), before: before.map(residency),
            windowNanoseconds: before == nil ? nil : 30_000_000_000, usedBytes: 7,
            isTraced: isTraced)
    }

    @Test func text() {
        let report = report(
            [.untraced: 30, .slack: 1, .free: 2, .mappings: 4],
            before: [.untraced: 20, .slack: 1, .free: 3, .mappings: 4])
        #expect(
            report.text == """
                process 12 (app)

                   Bytes    Grew by
                       0          0  traced live    asked for, of known stacks
                31457280  +10485760  untraced live  asked for while not traced
                 1048576          0  slack          slots larger than asked for
                       0          0  fragmented     free slots beside live ones
                       0          0  cached         free, kept for reuse
                 2097152   -1048576  free           slices that go back soon
                       0          0  metadata       our own structures
                       0          0  region         shared with memctl
                       0          0  stacks         of threads
                       0          0  modules        executable and libraries
                       0          0  files          mapped by the program
                 4194304          0  mappings       by the program, not malloc
                38797312   +9437184  sum
                38801408   +9437184  RSS            as the kernel counts it
                    4096             remainder      RSS - sum

                not malloc's, by name:
                     4194304  without a name

                leak: live memory grew by 10 MiB in 30 s, which is 1.2 GiB an hour. If that does
                    not level off, the program keeps what it asks for.
                next: memctl leak-check --for 30s -p 12

                """)
    }

    typealias Parts = [Residency.Part: UInt64]

    @Test(arguments: [
        ([.untraced: 50, .fragmented: 5] as Parts, ExplainReport.Verdict.live),
        ([.traced: 50, .fragmented: 40], .fragmentation),
        ([.traced: 50, .cached: 20, .free: 30], .cache),
        ([.traced: 50, .mappings: 60], .notMalloc),
        ([.modules: 5, .traced: 1], .notMalloc),
    ])
    func verdictOnShares(parts: Parts, verdict: ExplainReport.Verdict) {
        #expect(report(parts).verdict == verdict)
    }

    @Test(arguments: [
        ([.untraced: 9] as Parts, [.untraced: 9] as Parts, ExplainReport.Verdict.steady),
        ([.untraced: 9, .mappings: 4], [.untraced: 5, .mappings: 3], .leak),
        ([.untraced: 9, .mappings: 9], [.untraced: 8, .mappings: 3], .notMalloc),
        ([.fragmented: 9], [.fragmented: 5], .fragmentation),
        ([.cached: 4, .free: 9], [.cached: 4, .free: 5], .cache),
        ([.untraced: 2], [.untraced: 9], .steady),
    ])
    func verdictOnGrowth(now: Parts, before: Parts, verdict: ExplainReport.Verdict) {
        #expect(report(now, before: before).verdict == verdict)
    }

    @Test func nothingIsWiderThanATerminal() {
        for traced in [true, false] {
            for part in Residency.Part.allCases {
                let lines = report([part: 1 << 30], before: [part: 1], isTraced: traced).text
                    .split(separator: "\n")
                #expect(lines.allSatisfy { $0.count <= 80 || $0.hasPrefix("next") })
            }
        }
    }
}
