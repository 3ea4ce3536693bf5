// SPDX-License-Identifier: MIT
import ArgumentParser
import Exports
import HeapImage
import Reports

extension NumaReport.Order: ExpressibleByArgument {}

struct ShowNuma: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "numa", abstract: "Show on which NUMA nodes the heap's pages are.",
        discussion: """
            By arena with its policy, by class, or by thread with its pages on other nodes. Where \
            there is more than one node, policies are read from /proc/PID/numa_maps, for which the \
            kernel holds the process' address space a while: up to some milliseconds a gigabyte. \
            Above that it is done only with --policies.
            """)

    @OptionGroup var target: TargetOptions
    @OptionGroup var output: ReportOptions
    @Option(help: "What a row is.") var by = NumaReport.Order.arena
    @Flag(help: "Read policies of mappings larger than 1 GiB, too.") var policies = false

    func run() throws {
        let entry = try target.entry()
        let reading = try MemoryReading(entry, .heap)
        let topology = NodeTopology()
        let (found, why) = readPolicies(entry, reading, topology)
        var report = NumaReport(
            ReportedProcess(entry), reading, by: by, topology,
            threads: ProcessThreads(of: entry.pid), policies: found)
        report.policiesUnavailable = why
        output.print(
            text: report.writeText, json: report.writeJSON, prometheus: report.writePrometheus)
    }

    /// One node needs no policy.
    private func readPolicies(
        _ entry: RegionEntry, _ reading: MemoryReading, _ topology: NodeTopology
    ) -> (NodePolicies?, String?) {
        guard by == .arena, topology.nodes.count > 1 else { return (nil, nil) }
        let largest =
            (Mapping.all(of: entry.pid) ?? []).filter { $0.permissions != "---p" }
            .map(\.size).max() ?? 0
        guard policies || largest <= 1 << 30 else {
            return (nil, "a mapping of \(Layout.size(largest)) would be held: --policies")
        }
        let found = NodePolicies(of: entry.pid)
        return (found, found == nil ? "no permission, or no such file" : nil)
    }
}
