// SPDX-License-Identifier: MIT
import HeapImage

extension TraceReport {
    package var json: String { Output.text { writeJSON(to: &$0) } }
    package var vppJSON: String { Output.text { writeVPPJSON(to: &$0) } }

    /// Everything, as one object.
    ///
    /// docs/commands.md says what each field means.
    package func writeJSON(to output: inout Output) {
        JSONWriter.write(to: &output) { json in
            json.object { json in
                writeFields(to: &json)
                writeTotals(to: &json)
            }
        }
    }

    /// Process, rows, and what is missing in them.
    func writeFields(to json: inout JSONWriter) {
        process.write(to: &json)
        let frames = places.map(\.json)
        json.array("rows") { json in
            for row in rows { write(row, frames, to: &json) }
        }
        json.object("not_recorded") { json in
            json.field("overflow_stacks", missing.overflowStacks)
            json.field("untagged_allocs", missing.untaggedAllocs)
            json.field("cut_stacks", missing.cutStacks)
            json.field("stopped_stacks", missing.stoppedStacks)
        }
    }

    private func write(_ row: Row, _ frames: [[UInt8]], to json: inout JSONWriter) {
        json.object { json in
            json.field("stack", UInt64(row.stack))
            json.field("bytes", row.counts.liveBytes)
            json.field("usable", row.counts.liveUsable)
            json.field("count", row.counts.live)
            json.field("allocs", row.counts.allocs)
            json.field("frees", row.counts.frees)
            json.field("sample", row.sample == 0 ? nil : hex(row.sample))
            json.field("cut", row.isCut)
            json.field("stopped", row.isStopped)
            json.field("overflow", row.isOverflow)
            json.array("frames") { json in
                for frame in row.frames { json.raw(frames[Int(frame)]) }
            }
        }
    }

    private func writeTotals(to json: inout JSONWriter) {
        json.object("totals") { json in
            json.field("stacks", rowCount)
            json.field("shown", rows.count)
            json.field("traced_bytes", total.liveBytes)
            json.field("traced_usable", total.liveUsable)
            json.field("traced_count", total.live)
            json.field("untraced_usable", untraced?.bytes)
            json.field("untraced_count", untraced?.count)
            json.field("used_usable", used?.bytes)
            json.field("used_count", used?.count)
            json.field("used_unknown", usedUnknown)
            json.field("moved", moved)
        }
        json.object("overhead") { json in
            json.field("region", overhead.region)
            json.field("tracing", overhead.tracing)
            json.field("heap", overhead.heap)
        }
    }

    /// The array VPP's memory trace prints: count, bytes, sample, traceback; one string a frame.
    package func writeVPPJSON(to output: inout Output) {
        let lines = places.map { place in place.lines.map { "\(hex(place.pc)) \($0)" } }
        JSONWriter.write(to: &output) { json in
            json.array { json in
                for row in rows {
                    json.object { json in
                        json.field("count", row.counts.live)
                        json.field("bytes", row.counts.liveBytes)
                        json.field("sample", hex(row.sample))
                        json.array("traceback") { json in
                            for frame in row.frames {
                                for line in lines[Int(frame)] { json.value(line) }
                            }
                        }
                    }
                }
            }
        }
    }
}
