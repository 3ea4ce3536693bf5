// SPDX-License-Identifier: MIT
import HeapImage

extension WhatIsReport {
    package func writeJSON(to output: inout Output) {
        process.writeReport(to: &output) { json in
            json.array("answers") { json in
                for answer in answers { answer.write(to: &json) }
            }
            json.field("threads_without_registers", threadsMissing)
        }
    }
}

extension WhatIsReport.Answer {
    fileprivate func write(to json: inout JSONWriter) {
        json.object { json in
            json.field("address", hex(address))
            json.field("kind", kind)
            json.field("summary", fact.summary)
            switch fact {
            case .slot(let slot): write(slot, to: &json)
            case .rest(let span): write(span, to: &json)
            case .free(let arena, _): json.field("arena", hex(arena))
            case .structure: break
            case .mapping(let mapping, let thread):
                Self.write(mapping, "mapping", to: &json)
                json.field("stack_of_tid", thread.map { Int($0.tid) })
            case .unmapped(let below, let above):
                if let below { Self.write(below, "below", to: &json) }
                if let above { Self.write(above, "above", to: &json) }
            }
            guard let references else { return }
            json.field("reference_count", referenceCount)
            json.array("references") { json in
                for reference in references {
                    json.object { json in
                        json.field("holder", reference.holder.name)
                        json.field(
                            "address", reference.holder == .register ? nil : hex(reference.address))
                        json.field("value", hex(reference.value))
                        json.field("what", reference.what)
                    }
                }
            }
        }
    }

    private var kind: String {
        switch fact {
        case .slot: "slot"
        case .rest: "span"
        case .free: "free"
        case .structure: "structure"
        case .mapping: "mapping"
        case .unmapped: "unmapped"
        }
    }

    private func write(_ slot: SlotFact, to json: inout JSONWriter) {
        json.object("slot") { json in
            json.field("address", hex(slot.start))
            json.field("offset", slot.offset)
            json.field("usable", slot.size)
            json.field("requested", slot.tag?.requested)
            json.field("state", slot.state.rawValue)
            json.field("traced", slot.tag != nil)
            json.field("age_ms", ageNanoseconds.map { $0 / 1_000_000 })
            json.array("frames") { json in
                for place in places { json.raw(place.json) }
            }
        }
        write(slot.span, to: &json)
    }

    private func write(_ span: SpanFact, to json: inout JSONWriter) {
        json.object("span") { json in
            json.field("address", hex(span.base))
            json.field("kind", span.kind.rawValue)
            json.field("bytes", span.size)
            json.field("slot_size", span.slotSize)
            json.field("slots", span.slotCount)
            json.field("live_slots", span.live)
            json.field("arena", span.arena.map(hex))
            json.field("thread", span.thread.map { Int($0.number) })
            json.field("tid", span.thread?.tid.map { Int($0) })
            json.field("thread_name", span.thread?.name)
        }
    }

    private static func write(_ mapping: Mapping, _ key: String, to json: inout JSONWriter) {
        json.object(key) { json in
            json.field("start", hex(mapping.range.lowerBound))
            json.field("end", hex(mapping.range.upperBound))
            json.field("permissions", mapping.permissions)
            json.field("offset", mapping.offset)
            json.field("name", mapping.name)
        }
    }
}
