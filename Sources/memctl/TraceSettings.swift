// SPDX-License-Identifier: MIT
import CRegion

/// What `trace on` asks for.
struct TraceSettings: Equatable {
    /// Frames to keep; nil: as before.
    var depth: Int?
    /// nil: every allocation.
    var interval: SampleInterval?
    /// Mappings as well.
    var maps = false
}

/// Bytes from one sample to the next on the average: a power of two, as the region keeps it.
struct SampleInterval: Equatable {
    var exponent: UInt32

    static let usual = SampleInterval(exponent: UInt32(MC_SAMPLE_USUAL))
    static var range: String {
        "\(Size(bytes: 1 << UInt64(MC_SAMPLE_LEAST))) to \(Size(bytes: 1 << UInt64(MC_SAMPLE_MOST)))"
    }

    var bytes: UInt64 { 1 << UInt64(exponent) }

    init(exponent: UInt32) {
        self.exponent = exponent
    }

    /// The power of two nearest to a size; nil beyond the bounds.
    init?(near size: UInt64) {
        guard size >= 1 << UInt64(MC_SAMPLE_LEAST), size <= 1 << UInt64(MC_SAMPLE_MOST) else {
            return nil
        }
        let below = 63 - UInt32(size.leadingZeroBitCount)
        let isAbove = size - 1 << UInt64(below) > 1 << UInt64(below) / 2
        exponent = below + (isAbove ? 1 : 0)
    }
}
