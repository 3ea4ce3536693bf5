// SPDX-License-Identifier: MIT
import HeapImage
import Reports

extension MemoryReport {
    package func writePrometheus(to output: inout Output) {
        var metrics = Prometheus(process)
        metrics.gauge(
            "memctl_heap_reserved_bytes", "Address space held for slots.", reserved.bytes)
        metrics.gauge("memctl_heap_used_bytes", "Bytes in live slots.", used.bytes)
        metrics.gauge("memctl_heap_used_slots", "Live slots.", usedCount)
        metrics.gauge(
            "memctl_heap_traced_slack_bytes",
            "Bytes of traced live slots beyond what was asked for.", tracedSlack)
        metrics.gauge(
            "memctl_heap_untraced_bytes", "Bytes in live slots that are not traced.", untraced)
        metrics.gauge("memctl_heap_cached_bytes", "Bytes of spans not in live slots.", cached.bytes)
        metrics.gauge("memctl_heap_free_bytes", "Bytes of slices in no span.", free.bytes)
        metrics.gauge(
            "memctl_heap_purgeable_bytes", "Bytes of free slices not yet given back.", purgeable)
        metrics.counter(
            "memctl_heap_purged_bytes", "Bytes given back to the kernel.", [([], purged)])
        metrics.gauge(
            "memctl_heap_metadata_bytes", "Address space of the heap's structures.",
            metadata.bytes)
        metrics.gauge(
            "memctl_region_bytes", "Bytes that the region file occupies.", region.bytes)
        writeResident(&metrics)
        writePages(&metrics)
        metrics.write(to: &output)
    }

    private func writeResident(_ metrics: inout Prometheus) {
        guard pages.populatedBytes != nil else { return }
        var samples: [(labels: Prometheus.Labels, value: UInt64)] = [
            ([("use", "used")], used.populated), ([("use", "cached")], cached.populated),
            ([("use", "free")], free.populated), ([("use", "metadata")], metadata.populated),
            ([("use", "region")], region.populated),
        ]
        samples += Other.allCases.map {
            ([("use", $0.rawValue)], others[$0]?.populated ?? 0)
        }
        metrics.gauge(
            "memctl_resident_bytes", "Bytes that have memory behind them, by use.", samples)
        guard let size, let remainder else { return }
        metrics.gauge(
            "memctl_process_resident_bytes", "Resident size as the kernel counts it.",
            size.resident)
        metrics.gauge(
            "memctl_process_peak_resident_bytes", "Largest resident size so far.", size.peak)
        metrics.gauge("memctl_process_swapped_bytes", "Bytes in swap.", size.swapped)
        metrics.gauge(
            "memctl_resident_remainder_bytes",
            "Difference of the resident size and the sum by use.", UInt64(remainder.magnitude))
    }

    private func writePages(_ metrics: inout Prometheus) {
        let tally = pages.tally
        metrics.gauge("memctl_heap_page_size_bytes", "Bytes of a page.", pages.pageSize)
        metrics.gauge(
            "memctl_heap_pages", "Pages held for slots, by state.",
            [
                ([("state", "populated")], tally.populated),
                ([("state", "not_populated")], tally.notPopulated),
                ([("state", "unknown")], tally.unknown),
            ])
        guard pages.nodesUnavailable == nil else { return }
        metrics.gauge(
            "memctl_heap_node_pages", "Populated pages held for slots, by NUMA node.",
            tally.nodes.enumerated().map { ([("node", "\($0)")], $1) })
    }
}

extension ClassesReport {
    package func writePrometheus(to output: inout Output) {
        var metrics = Prometheus(process)
        func by(_ value: (Row) -> UInt64) -> [(labels: Prometheus.Labels, value: UInt64)] {
            rows.map { ([("class", $0.label)], value($0)) }
        }
        metrics.gauge("memctl_class_live_slots", "Live slots.", by(\.liveSlots))
        metrics.gauge("memctl_class_slots", "Slots, live or free.", by(\.totalSlots))
        metrics.gauge("memctl_class_spans", "Spans.", by(\.spans))
        metrics.gauge("memctl_class_bytes", "Bytes of the spans.", by(\.bytes))
        metrics.gauge("memctl_class_live_bytes", "Bytes in live slots.", by(\.liveBytes))
        metrics.gauge(
            "memctl_class_populated_bytes", "Bytes of the spans that have memory.",
            by(\.populated))
        metrics.gauge(
            "memctl_class_fragmentation_ratio", "Share of that memory in no live slot.",
            shares: rows.map { ([("class", $0.label)], $0.fragmentation) })
        metrics.counter(
            "memctl_class_allocations", "Slots handed out.", by(\.requests.succeeded))
        metrics.counter(
            "memctl_class_failures", "Requests for a slot that got none.", by(\.requests.failed))
        metrics.write(to: &output)
    }
}

extension ThreadsReport {
    package func writePrometheus(to output: inout Output) {
        var metrics = Prometheus(process)
        func labels(_ row: Row) -> Prometheus.Labels {
            [("thread", row.number == 0 ? "none" : "\(row.number)"), ("name", row.name)]
        }
        func by(_ value: (Row) -> UInt64) -> [(labels: Prometheus.Labels, value: UInt64)] {
            rows.map { (labels($0), value($0)) }
        }
        metrics.gauge("memctl_thread_spans", "Spans that a thread owns.", by(\.spans))
        metrics.gauge("memctl_thread_used_bytes", "Bytes in live slots of them.", by(\.used))
        metrics.gauge("memctl_thread_cached_bytes", "Bytes of them not live.", by(\.cached))
        metrics.gauge(
            "memctl_thread_remote_bytes", "Bytes freed by others, not yet taken back.",
            by(\.remoteBytes))
        if nodesUnavailable == nil {
            metrics.gauge(
                "memctl_thread_node_pages", "Populated pages of them, by NUMA node.",
                rows.flatMap { row in
                    row.pages.nodes.enumerated().map {
                        (labels(row) + [("node", "\($0.offset)")], $0.element)
                    }
                })
            metrics.gauge(
                "memctl_thread_remote_pages", "Pages on another node than the thread's.",
                rows.compactMap { row in row.remotePages.map { (labels(row), $0) } })
        }
        metrics.write(to: &output)
    }
}

extension NumaReport {
    package func writePrometheus(to output: inout Output) {
        var metrics = Prometheus(process)
        if nodesUnavailable == nil {
            metrics.gauge(
                "memctl_node_pages", "Populated pages by \(order.rawValue) and NUMA node.",
                rows.flatMap { row in
                    nodes.map { node in
                        (
                            [(order.rawValue, row.name), ("node", "\(node)")],
                            node < row.pages.nodes.count ? row.pages.nodes[node] : 0
                        )
                    }
                })
        }
        metrics.write(to: &output)
    }
}

extension SizesReport {
    package func writePrometheus(to output: inout Output) {
        var metrics = Prometheus(process)
        func by(_ value: (Row) -> UInt64) -> [(labels: Prometheus.Labels, value: UInt64)] {
            rows.map { ([("class", $0.label)], value($0)) }
        }
        metrics.gauge("memctl_size_live_slots", "Live slots.", by(\.live))
        metrics.gauge("memctl_size_traced_slots", "Live slots that are traced.", by(\.traced))
        metrics.gauge(
            "memctl_size_requested_bytes", "Bytes asked for, of traced slots.", by(\.requested))
        metrics.gauge(
            "memctl_size_slack_bytes", "Bytes of traced slots beyond that.", by(\.slack))
        metrics.write(to: &output)
    }
}

extension ArenasReport {
    package func writePrometheus(to output: inout Output) {
        var metrics = Prometheus(process)
        func by(_ value: (Row) -> UInt64?) -> [(labels: Prometheus.Labels, value: UInt64)] {
            rows.compactMap { row in value(row).map { ([("arena", row.name)], $0) } }
        }
        metrics.gauge("memctl_arena_in_use_bytes", "Bytes in use.", by { $0.inUse })
        metrics.gauge("memctl_arena_bytes", "Bytes there are.", by { $0.total })
        metrics.counter(
            "memctl_arena_requests_succeeded", "Requests that were met.", by { $0.succeeded })
        metrics.counter(
            "memctl_arena_requests_failed", "Requests that were not.", by { $0.failed })
        metrics.write(to: &output)
    }
}

extension MapReport {
    package func writePrometheus(to output: inout Output) {
        var metrics = Prometheus(process)
        func by(_ value: (Row) -> UInt64?) -> [(labels: Prometheus.Labels, value: UInt64)] {
            rows.compactMap { row in
                value(row).map {
                    (
                        [
                            ("start", hex(row.range.lowerBound)), ("kind", row.kind.rawValue),
                            ("name", row.name),
                        ], $0
                    )
                }
            }
        }
        metrics.gauge("memctl_mapping_bytes", "Address space of a mapping.", by { $0.size })
        metrics.gauge(
            "memctl_mapping_populated_pages", "Pages of it that have memory.",
            by { $0.pages.populated })
        metrics.gauge(
            "memctl_mapping_swapped_pages", "Pages of it in swap.", by { $0.pages.swapped })
        metrics.gauge(
            "memctl_mapping_free_inside_bytes", "Memory of it in no live slot.",
            by { $0.freeInside })
        metrics.write(to: &output)
    }
}

extension TotalReport {
    package func writePrometheus(to output: inout Output) {
        var metrics = Prometheus(process)
        metrics.gauge("memctl_heap_used_bytes", "Bytes in live slots.", used)
        metrics.write(to: &output)
    }
}
