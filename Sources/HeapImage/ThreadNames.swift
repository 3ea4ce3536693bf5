// SPDX-License-Identifier: MIT
import CRegion

/// The kernel's ids of the heap's threads, asked for once each.
package struct ThreadNames<Memory: MemorySource> {
    private let memory: Memory
    private var known: [UInt64: UInt32] = [:]

    package init(_ memory: Memory) {
        self.memory = memory
    }

    /// 0 for a thread that can't be read, or none.
    package mutating func kernelID(of address: UInt64) -> UInt32 {
        guard address != 0 else { return 0 }
        if let id = known[address] { return id }
        let thread = try? memory.load(mc_thread.self, at: address, zero: mc_thread())
        known[address] = thread?.tid ?? 0
        return thread?.tid ?? 0
    }
}
