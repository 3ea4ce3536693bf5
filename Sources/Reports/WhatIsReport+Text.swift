// SPDX-License-Identifier: MIT
import HeapImage

extension WhatIsReport {
    package var text: String { Output.text { writeText(to: &$0) } }
    package var json: String { Output.text { writeJSON(to: &$0) } }

    /// References shown of an address; JSON has all that are kept.
    private static let shown = 50

    package func writeText(to output: inout Output) {
        output.write(line: "process \(process.title)")
        for answer in answers {
            output.write("\n")
            output.write(line: hex(answer.address))
            for text in answer.lines {
                for line in Layout.wrapped(text, indent: "    ", hanging: "        ") {
                    output.write(line: line)
                }
            }
            writeStack(answer, to: &output)
            writeReferences(answer, to: &output)
        }
        if threadsMissing > 0 {
            let threads = Layout.count(UInt64(threadsMissing), "thread", "threads")
            output.write(line: "\nregisters of \(threads) could not be read")
        }
    }

    private func writeStack(_ answer: Answer, to output: inout Output) {
        guard !answer.places.isEmpty else { return }
        let stacks = StackText(answer.places, frameLimit: nil)
        stacks.write(
            TraceReport.Row(
                stack: 0, counts: StackCounts(), frames: answer.places.indices.map(Int32.init)),
            to: &output)
    }

    private func writeReferences(_ answer: Answer, to output: inout Output) {
        guard let references = answer.references else { return }
        let count = Layout.count(answer.referenceCount, "reference", "references")
        output.write(line: "    \(answer.referenceCount == 0 ? "no references" : count)")
        let target = answer.fact.target(of: answer.address).lowerBound
        for reference in references.prefix(Self.shown) {
            let place = reference.holder == .register ? "" : hex(reference.address) + " "
            let into = reference.value.minus(target)
            let text = "\(place)\(reference.what)" + (into == 0 ? "" : ", to byte \(into)")
            for line in Layout.wrapped(text, indent: "        ", hanging: "            ") {
                output.write(line: line)
            }
        }
        if answer.referenceCount > UInt64(Self.shown) {
            output.write(line: "        and \(answer.referenceCount - UInt64(Self.shown)) more")
        }
    }
}

extension WhatIsReport.Answer {
    fileprivate var lines: [String] {
        switch fact {
        case .slot(let slot): return slotLines(slot)
        case .rest(let span):
            return ["behind the last slot of a span: no object is ever here", Self.line(span)]
        case .free(let arena, let size):
            return [
                "free slices: no object is here", "arena \(hex(arena)), \(Layout.size(size))",
            ]
        case .structure(let what): return ["the heap's own: \(what)"]
        case .mapping(let mapping, let thread): return Self.lines(mapping, thread, address)
        case .unmapped(let below, let above):
            return ["not mapped"] + (below.map { ["above \(Self.bounds($0))"] } ?? [])
                + (above.map { ["below \(Self.bounds($0))"] } ?? [])
        }
    }

    private func slotLines(_ slot: SlotFact) -> [String] {
        let place = "slot \(hex(slot.start)) + \(slot.offset)"
        var lines: [String] = []
        let thread = slot.span.thread.map { "thread \($0.number)" } ?? "its thread"
        switch slot.state {
        case .live:
            let requested = slot.tag.map { "\($0.requested) of " } ?? ""
            let untraced = slot.tag == nil ? ", not traced" : ""
            lines.append("\(place): live, \(requested)\(slot.size) bytes\(untraced)")
        case .free: lines.append("\(place): free, on the list of \(thread), \(slot.size) bytes")
        case .remote:
            lines.append(
                "\(place): freed by another thread, waits for \(thread), \(slot.size) bytes")
        case .purged:
            lines.append("\(place): free, its pages given back, \(slot.size) bytes")
        case .fresh: lines.append("\(place): never handed out, \(slot.size) bytes")
        case .waiting:
            lines.append(
                "\(place): free, kept by a thread for its next request, \(slot.size) bytes")
        }
        lines.append(Self.line(slot.span))
        if let thread = slot.span.thread {
            let role = slot.span.kind == .slots ? "owner" : "asked for by"
            lines.append("\(role) \(Self.name(of: thread))")
        }
        if let arena = slot.span.arena { lines.append("arena \(hex(arena))") }
        if slot.tag != nil {
            let age = ageNanoseconds.map { " \(Layout.duration($0)) ago" } ?? ""
            lines.append(places.isEmpty ? "made\(age), its stack is not known" : "made\(age) by")
        }
        return lines
    }

    private static func line(_ span: SpanFact) -> String {
        let size = Layout.size(span.size)
        return switch span.kind {
        case .slots:
            "span \(hex(span.base)), \(size): \(span.slotCount) slots of \(span.slotSize) bytes,"
                + " \(span.live) live"
        case .large: "span \(hex(span.base)), \(size): one large slot"
        case .huge: "span \(hex(span.base)), \(size): one huge slot, a mapping of its own"
        }
    }

    private static func name(of thread: HeapThreadFact) -> String {
        guard let tid = thread.tid else { return "thread \(thread.number), which has ended" }
        let name = thread.name.isEmpty ? "" : ", \(Layout.safe(thread.name))"
        return "thread \(thread.number) (tid \(tid)\(name))"
    }

    private static func place(
        on stack: Mapping, _ thread: ProcessThreads.Thread, _ address: UInt64
    ) -> String {
        if thread.stackPointer == 0 { return "which runs" }
        guard stack.range.contains(thread.stackPointer) else { return "which is on another now" }
        return thread.isUnused(address, of: stack)
            ? "below its stack pointer: not in use"
            : "\(address - thread.stackPointer) bytes above its stack pointer"
    }

    private static func lines(
        _ mapping: Mapping, _ thread: ProcessThreads.Thread?, _ address: UInt64
    ) -> [String] {
        var lines: [String] = []
        let offset = address - mapping.range.lowerBound
        if let thread {
            let name = thread.name.isEmpty ? "" : " (\(Layout.safe(thread.name)))"
            lines.append(
                "stack of thread \(thread.tid)\(name), \(place(on: mapping, thread, address))")
        } else if mapping.isFile {
            lines.append(
                "\(Layout.safe(mapping.name)) + \(hex(mapping.offset + offset))")
        } else {
            lines.append(
                mapping.name.isEmpty
                    ? "memory without a name, not the heap's" : Layout.safe(mapping.name))
        }
        lines.append("mapping \(bounds(mapping))")
        return lines
    }

    private static func bounds(_ mapping: Mapping) -> String {
        let name = mapping.name.isEmpty ? "" : " \(Layout.safe(Place.lastPart(mapping.name)))"
        return "\(hex(mapping.range.lowerBound))-\(hex(mapping.range.upperBound))"
            + " \(mapping.permissions), \(Layout.size(mapping.size))\(name)"
    }
}
