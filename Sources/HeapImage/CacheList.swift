// SPDX-License-Identifier: MIT
import CRegion

/// A list of a thread's cache, of one class: slots of other threads' spans that it freed and keeps.
///
/// Each class has one list; behind these lie proxies, each with the slots of one span.
struct CacheList {
    /// Of the class.
    let index: Int
    let raw: mc_span

    var isProxy: Bool { Int32(raw.state) == Int32(MC_SPAN_PROXY) }

    /// Its slots: a list counts down from 0, a proxy to 0 from what it may have.
    var count: UInt64 {
        isProxy
            ? UInt64(raw.slot_count).minus(raw.usedCount)
            : UInt64(UInt16(bitPattern: 0 &- raw.used))
    }

    /// Those of the cache at `address`: the lists by class, whatever they say they are, and then the
    /// proxies that are in use.
    static func all(
        _ memory: some MemorySource, at address: UInt64
    ) throws(HeapImageError) -> [Self] {
        let classes = Int(MC_CACHE_CLASSES)
        var structs = [mc_span](repeating: mc_span(), count: classes + Int(MC_PROXIES))
        try memory.load(into: &structs, from: address)
        let lists = structs[..<classes].enumerated().map { Self(index: $0, raw: $1) }
        let proxies = structs[classes...].map { Self(index: Int($0.class_index), raw: $0) }
        return lists + proxies.filter { $0.isProxy && $0.index < classes }
    }
}
