// SPDX-License-Identifier: MIT
import HeapImage

/// What a walk through every structure of a heap found.
package struct VerifyReport: Equatable, Sendable {
    package struct Finding: Equatable, Sendable {
        package var kind: HeapFinding.Kind
        /// "span 0x7f0123400000".
        package var place: String
        package var at: UInt64
        package var what: String

        package init(_ finding: HeapFinding) {
            kind = finding.kind
            at = finding.at
            what = finding.what
            place =
                switch finding.place {
                case .root: "heap"
                case .arena(let base): "arena \(hex(base))"
                case .span(let base): "span \(hex(base))"
                case .thread(let number): "thread \(number)"
                }
        }
    }

    package var process: ReportedProcess
    package var walked: HeapCheck.Counts
    package var findings: [Finding]
    /// Explained by threads that are inside the heap just now.
    package var uncertain: [Finding]
    package var unsettled: Int
    package var abandoned: Int

    package init(process: ReportedProcess, _ check: HeapCheck) {
        self.process = process
        walked = check.counts
        findings = check.findings.map(Finding.init)
        uncertain = check.uncertain.map(Finding.init)
        unsettled = check.unsettled
        abandoned = check.abandoned
    }

    package var isClean: Bool { findings.isEmpty }
}

extension VerifyReport {
    package var text: String { Output.text { writeText(to: &$0) } }
    package var json: String { Output.text { writeJSON(to: &$0) } }

    /// Findings shown as text; JSON has all of them.
    private static let shown = 100

    package func writeText(to output: inout Output) {
        output.write(line: "process \(process.title)\n")
        for row in walkedRows { output.write(line: Layout.left(row.name, 10) + row.text) }
        output.write("\n")
        writeFindings(findings, to: &output)
        if !uncertain.isEmpty {
            output.write(
                line:
                    "Not counted, as threads that are inside the heap just now may account for it:")
            writeFindings(uncertain, to: &output)
        }
        if unsettled > 0 {
            let spans = Layout.count(UInt64(unsettled), "span", "spans")
            output.write(line: "\(spans) changed all the while: lists not judged")
        }
        if abandoned > 0 {
            let spans = Layout.count(UInt64(abandoned), "span", "spans")
            output.write(line: "\(spans) of threads of the parent process: lists not judged")
        }
        output.write(line: isClean ? "clean" : "\(findings.count)\(overLimit) corrupt")
    }

    /// The walk ends when it has found so many.
    private var overLimit: String { findings.count >= HeapCheck.findingLimit ? " or more" : "" }

    private var walkedRows: [(name: String, text: String)] {
        let slots =
            "\(walked.liveSlots) live, \(walked.freeSlots) free, \(walked.remoteSlots) freed by"
            + " other threads"
        return [
            ("arenas", "\(walked.arenas)"),
            (
                "spans",
                "\(walked.slotSpans) of slots, \(walked.large) large, \(walked.huge) huge,"
                    + " \(walked.waiting) waiting"
            ),
            ("slots", slots),
            ("tags", "\(walked.tags)"),
            ("page map", Layout.count(walked.pageMapEntries, "entry", "entries")),
            ("threads", "\(walked.threads)"),
        ]
    }

    private func writeFindings(_ findings: [Finding], to output: inout Output) {
        var place = ""
        for finding in findings.prefix(Self.shown) {
            if finding.place != place { output.write(line: finding.place) }
            place = finding.place
            for line in Layout.wrapped(finding.what, indent: "    ", hanging: "      ") {
                output.write(line: line)
            }
        }
        if findings.count > Self.shown {
            output.write(
                line: "and \(findings.count - Self.shown) more: --format json has them all")
        }
        if !findings.isEmpty { output.write("\n") }
    }

    package func writeJSON(to output: inout Output) {
        process.writeReport(to: &output) { json in
            json.field("clean", isClean)
            json.field("corrupt", findings.count)
            Self.write(findings, "findings", to: &json)
            Self.write(uncertain, "uncertain", to: &json)
            json.field("unsettled_spans", unsettled)
            json.field("abandoned_spans", abandoned)
            json.object("walked") { json in
                json.field("arenas", walked.arenas)
                json.field("slot_spans", walked.slotSpans)
                json.field("large", walked.large)
                json.field("huge", walked.huge)
                json.field("waiting", walked.waiting)
                json.field("live_slots", walked.liveSlots)
                json.field("free_slots", walked.freeSlots)
                json.field("remote_slots", walked.remoteSlots)
                json.field("tags", walked.tags)
                json.field("page_map_entries", walked.pageMapEntries)
                json.field("threads", walked.threads)
            }
        }
    }

    private static func write(_ findings: [Finding], _ key: String, to json: inout JSONWriter) {
        json.array(key) { json in
            for finding in findings {
                json.object { json in
                    json.field("kind", finding.kind.rawValue)
                    json.field("place", finding.place)
                    json.field("at", hex(finding.at))
                    json.field("what", finding.what)
                }
            }
        }
    }
}
