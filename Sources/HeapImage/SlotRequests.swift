// SPDX-License-Identifier: MIT
import CRegion
import Glibc

/// How often slots of each class were asked for since the process started: what malloc counts.
///
/// Exact while the process stands still. While it runs, a span that changes its class as it is read
/// may be missed with what it had counted.
package struct SlotRequests: Equatable, Sendable {
    package struct Count: Equatable, Sendable {
        /// Slots handed out: one for every call that got memory it did not have before.
        package var succeeded: UInt64
        /// Calls that got none.
        package var failed: UInt64

        package init(succeeded: UInt64 = 0, failed: UInt64 = 0) {
            self.succeeded = succeeded
            self.failed = failed
        }
    }

    /// By class.
    private var counts = [Count](repeating: Count(), count: Int(MC_COUNTED_CLASSES))

    package init() {}

    /// What the heap keeps of spans that are no more; those there are have to be added.
    init(_ root: mc_heap_root) {
        let (taken, refused) = (Self.words(root.slots_taken), Self.words(root.slots_refused))
        counts = zip(taken, refused).map { Count(succeeded: $0, failed: $1) }
    }

    /// A span in use or not, or a list of a thread's cache.
    mutating func add(_ span: mc_span) {
        let index = Int(span.class_index)
        guard index < counts.count else { return }
        counts[index].succeeded = counts[index].succeeded.plus(UInt64(span.allocations))
    }

    /// What a thread served of a class.
    mutating func add(_ serving: mc_serving, class index: Int) {
        let more = mc_counts_allocations(serving.counts)
        counts[index].succeeded = counts[index].succeeded.plus(more)
    }

    package subscript(slotSize size: UInt64) -> Count {
        get { Self.indexOfSize[size].map { counts[$0] } ?? Count() }
        set { if let index = Self.indexOfSize[size] { counts[index] = newValue } }
    }

    package var large: Count {
        get { counts[Int(MC_CLASS_LARGE)] }
        set { counts[Int(MC_CLASS_LARGE)] = newValue }
    }
    package var huge: Count {
        get { counts[Int(MC_CLASS_HUGE)] }
        set { counts[Int(MC_CLASS_HUGE)] = newValue }
    }

    /// Slot sizes of the classes that were ever asked for.
    package var slotSizes: [UInt64] {
        (0..<Int(MC_CLASS_COUNT)).filter { counts[$0] != Count() }.map {
            mc_class_slot_size(UInt32($0))
        }
    }

    private static let indexOfSize = Dictionary(
        uniqueKeysWithValues: (0..<Int(MC_CLASS_COUNT)).map {
            (mc_class_slot_size(UInt32($0)), $0)
        })

    /// A fixed C array of words.
    private static func words<Words>(_ array: Words) -> [UInt64] {
        withUnsafeBytes(of: array) { Array($0.bindMemory(to: UInt64.self)) }
    }
}

extension mc_span {
    /// Bytes of a slot; of a large or huge one the request in whole pages.
    var slotSize: UInt64 {
        Int32(class_index) < Int32(MC_CLASS_COUNT)
            ? mc_class_slot_size(UInt32(class_index)) : slot_size
    }

    /// Slots handed out, or freed by others; only lists of caches, which are no spans, have a number below 0.
    var usedCount: UInt64 { UInt64(UInt32(bitPattern: used)) }

    /// The same but for how many allocations it served: what was handed out has come back since.
    func equals(_ other: mc_span) -> Bool {
        var (one, two) = (self, other)
        (one.allocations, two.allocations) = (0, 0)
        return memcmp(&one, &two, MemoryLayout<mc_span>.size) == 0
    }
}
