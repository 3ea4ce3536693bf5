// SPDX-License-Identifier: MIT
import CRegion

/// An object the process had loaded, as the region names it.
package struct ModuleRecord: Equatable, Hashable, Sendable {
    package var path: String
    package var buildID: [UInt8]
    package var start: UInt64
    package var end: UInt64
    package var bias: UInt64
    package var firstEpoch: UInt32
    package var lastEpoch: UInt32

    package init(
        path: String, buildID: [UInt8], start: UInt64, end: UInt64, bias: UInt64,
        firstEpoch: UInt32, lastEpoch: UInt32
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

extension RegionBytes {
    /// The module table.
    ///
    /// A record whose name lies outside the strings keeps its range and loses its name; one with an
    /// empty range is left out.
    package func modules(_ header: RegionHeader) throws(HeapImageError) -> [ModuleRecord] {
        let records = try records(
            header.modules, named: "modules", atMost: 1 << 16, zero: mc_region_module())
        let strings =
            try records.isEmpty
            ? [] : self.records(header.strings, named: "strings", atMost: 1 << 28, zero: UInt8(0))
        return records.compactMap { record in
            guard record.start < record.end else { return nil }
            let end = record.path_offset.plus(UInt64(record.path_size))
            let isNamed = end <= UInt64(strings.count) && record.path_size <= 4096
            let name = isNamed ? strings[Int(record.path_offset)..<Int(end)] : []
            let buildID = withUnsafeBytes(of: record.build_id) { bytes in
                Array(bytes.prefix(Int(min(record.build_id_size, 32))))
            }
            return ModuleRecord(
                path: String(decoding: name, as: UTF8.self), buildID: buildID, start: record.start,
                end: record.end, bias: record.bias, firstEpoch: record.first_epoch,
                lastEpoch: record.last_epoch)
        }
    }
}
