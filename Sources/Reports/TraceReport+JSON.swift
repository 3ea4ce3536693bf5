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
            json.field("misplaced_frees", missing.misplacedFrees)
            json.field("missed_maps", missing.missedMaps)
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
            json.field("waste", row.counts.waste)
            json.field("pinned", row.pinned)
            json.field(
                "mean_lifetime_ms", row.counts.meanLifetimeNanoseconds.map { $0 / 1_000_000 })
            json.field("temporary", row.counts.temporary)
            json.field("sample", row.sample == 0 ? nil : hex(row.sample))
            json.field("kind", row.isMapped ? "mmap" : "heap")
            json.field("part_of", row.partOf.map { UInt64($0) })
            json.field("deepened", row.isDeepened)
            write(row.estimate, to: &json)
            json.field("cut", row.isCut)
            json.field("stopped", row.isStopped)
            json.field("overflow", row.isOverflow)
            json.array("frames") { json in
                for frame in row.frames { json.raw(frames[Int(frame)]) }
            }
        }
    }

    /// How sure the numbers of what was sampled are; nothing where they are exact.
    private func write(_ estimate: Estimate?, to json: inout JSONWriter) {
        guard let estimate else { return json.field("estimate", String?.none) }
        json.object("estimate") { json in
            json.field("samples", estimate.taken.minus(estimate.freed))
            json.field("samples_taken", estimate.taken)
            json.field("stderr_bytes", estimate.bytesError)
            json.field("stderr_count", estimate.countError)
        }
    }

    private func writeTotals(to json: inout JSONWriter) {
        json.object("totals") { json in
            json.field("stacks", rowCount)
            json.field("shown", shownCount)
            json.field("traced_bytes", total.liveBytes)
            json.field("traced_usable", total.liveUsable)
            json.field("traced_count", total.live)
            json.field("untraced_usable", untraced?.bytes)
            json.field("untraced_count", untraced?.count)
            json.field("used_usable", used?.bytes)
            json.field("used_count", used?.count)
            json.field("used_unknown", usedUnknown)
            json.field("moved", moved)
            json.field("mapped_bytes", mapped.liveBytes)
            json.field("mapped_count", mapped.live)
            json.field("sampled_bytes", sampled?.counts.liveBytes)
            json.field("sampled_usable", sampled?.counts.liveUsable)
            json.field("sampled_count", sampled?.counts.live)
            write(sampled?.estimate, to: &json)
            json.field("filter", filter)
        }
        json.object("overhead") { json in
            json.field("region", overhead.region)
            json.field("tracing", overhead.tracing)
            json.field("trails", overhead.trails)
            json.field("heap", overhead.heap)
            json.field("bytes_per_stack", overhead.bytesPerStack)
            json.field("frame_bytes_per_stack", overhead.frameBytesPerStack)
            json.field("bytes_per_ten_objects", overhead.bytesPerTenObjects)
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
