// SPDX-License-Identifier: MIT
import CRegion

/// A list of a thread's cache, of one class: slots of other threads' spans that it freed and keeps.
///
/// Each class has one list; proxies have each the slots of one span.
struct CacheList {
    /// Of the class.
    let index: Int
    let raw: mc_span
    /// Of a proxy: the address of the span's struct.
    var standsFor: UInt64 = 0

    var isProxy: Bool { Int32(raw.state) == Int32(MC_SPAN_PROXY) }

    /// Its slots: a list counts down from 0, a proxy to 0 from what it may have.
    var count: UInt64 {
        isProxy
            ? UInt64(raw.slot_count).minus(raw.usedCount)
            : UInt64(UInt16(truncatingIfNeeded: 0 &- raw.used))
    }

    /// Those of the cache at `address`: the lists by class, whatever they say they are, and then the
    /// proxies that are in use.
    static func all(
        _ memory: some MemorySource, at address: UInt64
    ) throws(HeapImageError) -> [Self] {
        let count = Int(MC_PROXIES)
        var lists = [mc_span](repeating: mc_span(), count: Int(MC_CACHE_CLASSES))
        var proxies = [mc_span](repeating: mc_span(), count: count)
        var places = [mc_proxy_place](repeating: mc_proxy_place(), count: count)
        try memory.load(into: &lists, from: address)
        try memory.load(into: &places, from: address &+ UInt64(MC_CACHE_PLACES_AT))
        try memory.load(into: &proxies, from: address &+ UInt64(MC_CACHE_PROXIES_AT))
        let inUse = zip(proxies, places).map {
            Self(index: Int($0.class_index), raw: $0, standsFor: $1.stands_for)
        }
        return lists.enumerated().map { Self(index: $0, raw: $1) }
            + inUse.filter { $0.isProxy && $0.index < lists.count }
    }
}
