// SPDX-License-Identifier: MIT

/// One loaded object, as recorded by the traced process: works for live, dead, unloaded and core.
///
/// Nothing in it is trusted: the path may name anything, the range may be empty or overlap others.
package struct Module: Sendable, Hashable {
    package var path: String
    package var buildID: [UInt8]
    package var start: UInt64
    package var end: UInt64
    /// Load bias: address in the process minus address in the file (`l_addr`).
    package var bias: UInt64
    package var firstEpoch: UInt32
    /// `UInt32.max` while the module is loaded.
    package var lastEpoch: UInt32

    package init(
        path: String, buildID: [UInt8], start: UInt64, end: UInt64, bias: UInt64,
        firstEpoch: UInt32 = 0, lastEpoch: UInt32 = .max
    ) {
        self.path = path
        self.buildID = buildID
        self.start = start
        self.end = end
        self.bias = bias
        self.firstEpoch = firstEpoch
        self.lastEpoch = lastEpoch
    }
}

/// Which module an address belonged to in a given epoch.
///
/// Modules are sorted by start; `reach[i]` is the largest end among the first i + 1, so a lookup
/// stops walking back as soon as nothing earlier can contain the address. Where recorded ranges
/// overlap in one epoch the module that was loaded last wins.
struct ModuleMap {
    private let order: [Int]
    private let starts: [UInt64]
    private let reach: [UInt64]
    private let modules: [Module]

    init(_ modules: [Module]) {
        self.modules = modules
        order = modules.indices.filter { modules[$0].start < modules[$0].end }
            .sorted { (modules[$0].start, $0) < (modules[$1].start, $1) }
        starts = order.map { modules[$0].start }
        var furthest: UInt64 = 0
        reach = order.map {
            furthest = max(furthest, modules[$0].end)
            return furthest
        }
    }

    /// Index of the module, as given to the initializer.
    func index(of address: UInt64, epoch: UInt32) -> Int? {
        var position = starts.count(notAbove: address)
        var best: Int?
        while position > 0, reach[position - 1] > address {
            position -= 1
            let candidate = modules[order[position]]
            guard address < candidate.end, candidate.firstEpoch <= epoch,
                epoch <= candidate.lastEpoch
            else { continue }
            if let found = best, modules[found].firstEpoch >= candidate.firstEpoch { continue }
            best = order[position]
        }
        return best
    }
}

extension Array where Element == UInt64 {
    /// How many elements of a sorted array are at most `value`.
    func count(notAbove value: UInt64) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = low + (high - low) / 2
            if self[middle] <= value { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
