// SPDX-License-Identifier: MIT
import CRegion
import Glibc

/// Reads the structs of all spans there ever were, each twice, since the process may run on.
///
/// Some thousands at a time, into memory that is used again: that is what makes a sum over a
/// heap of gigabytes cost little more than the copies.
enum SpanReader {
    /// As many as a heap of 512 GiB of the smallest spans has.
    static let limit: UInt64 = 1 << 25
    private static let batch: UInt64 = 4096

    /// `visit` is told whether two readings in a row were equal; else the span is as last read.
    static func forEach(
        _ memory: some MemorySource, _ root: mc_heap_root,
        _ visit: (_ span: mc_span, _ isSettled: Bool) -> Void
    ) throws(HeapImageError) {
        guard root.pool_count <= UInt64(MC_SPAN_POOLS_MAX) else {
            throw .damagedHeap(why: "\(root.pool_count) span pools")
        }
        // The first `span_count` structs were used so far; a pool has room for more.
        var left = root.span_count
        guard left <= limit else { throw .damagedHeap(why: "\(left) spans") }
        guard root.pool_count > 0, left > 0 else { return }
        var pools = [mc_heap_pool](repeating: mc_heap_pool(), count: Int(root.pool_count))
        try memory.load(into: &pools, from: root.pools)
        var once = [mc_span](repeating: mc_span(), count: Int(min(left, batch)))
        var again = once
        for pool in pools {
            let used = min(pool.count, left)
            left -= used
            var first: UInt64 = 0
            while first < used {
                let count = Int(min(used - first, batch))
                if once.count != count {
                    once = [mc_span](repeating: mc_span(), count: count)
                    again = once
                }
                let address = pool.start &+ first &* UInt64(MemoryLayout<mc_span>.stride)
                try visitBatch(memory, at: address, &once, &again, visit)
                first += UInt64(count)
            }
        }
    }

    private static func visitBatch(
        _ memory: some MemorySource, at address: UInt64, _ once: inout [mc_span],
        _ again: inout [mc_span], _ visit: (mc_span, Bool) -> Void
    ) throws(HeapImageError) {
        let stride = MemoryLayout<mc_span>.stride
        try memory.load(into: &once, from: address)
        try memory.load(into: &again, from: address)
        let isStill = memcmp(once, again, once.count * stride) == 0
        for index in once.indices {
            var isSettled = isStill || once[index].equals(again[index])
            for _ in 0..<8 where !isSettled {
                once[index] = again[index]
                again[index] = try memory.load(
                    mc_span.self, at: address &+ UInt64(index * stride), zero: mc_span())
                isSettled = once[index].equals(again[index])
            }
            visit(again[index], isSettled)
        }
    }
}
