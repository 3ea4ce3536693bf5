// SPDX-License-Identifier: MIT
import CRegion
import Glibc

/// How sure the numbers of a sampled stack are.
///
/// Each sampled object stands for w = 1 / (1 - exp(-size / interval)) objects. Sums of w are
/// unbiased; variances add up, so rows can be summed.
package struct Estimate: Equatable, Sendable {
    /// Objects that were sampled, and of these the freed.
    package var taken: UInt64 = 0
    package var freed: UInt64 = 0
    /// Of the objects that live.
    package var countVariance = 0.0
    package var bytesVariance = 0.0

    package init() {}

    package init(taken: UInt64, freed: UInt64, countVariance: Double, bytesVariance: Double) {
        self.taken = taken
        self.freed = freed
        self.countVariance = countVariance
        self.bytesVariance = bytesVariance
    }

    init(_ raw: mc_region_samples, interval: UInt32) {
        taken = raw.taken
        freed = raw.freed
        // In and out are read one after the other: what went on meanwhile may make it negative.
        func live(_ taken: UInt64, _ freed: UInt64) -> Double {
            Double(max(0, Int64(bitPattern: taken &- freed)))
        }
        countVariance = live(raw.count_square_in, raw.count_square_out)
        bytesVariance =
            live(raw.bytes_square_in, raw.bytes_square_out) * Double(UInt64(1) << interval)
    }

    /// Standard errors of the live numbers.
    package var countError: UInt64 { Self.rounded(countVariance.squareRoot()) }
    package var bytesError: UInt64 { Self.rounded(bytesVariance.squareRoot()) }

    package mutating func add(_ other: Estimate) {
        taken = taken.plus(other.taken)
        freed = freed.plus(other.freed)
        countVariance += other.countVariance
        bytesVariance += other.bytesVariance
    }

    /// What one live object of so many bytes adds, and how sure that is: as the process counts it.
    package static func ofOne(
        requested: UInt64, usable: UInt64, interval: UInt32
    ) -> (count: Double, bytes: Double, usable: Double, Estimate) {
        let size = Double(max(requested, 1))
        let range = Double(UInt64(1) << UInt64(interval))
        let chance = -expm1(-size / range)
        let weight = 1 / chance
        let square = weight * (1 - chance) / chance
        return (
            weight, Double(requested) * weight, Double(usable) * weight,
            Estimate(
                taken: 1, freed: 0, countVariance: square, bytesVariance: size * size * square)
        )
    }

    package static func rounded(_ value: Double) -> UInt64 {
        value < 0x1p63 ? UInt64(value.rounded()) : 1 << 63
    }
}

extension StackCounts {
    /// Of a sampled stack: its counts in whole objects.
    var inObjects: StackCounts {
        func objects(_ parts: UInt64) -> UInt64 {
            parts.plus(UInt64(MC_SAMPLE_UNIT) / 2) / UInt64(MC_SAMPLE_UNIT)
        }
        var counts = self
        counts.allocs = objects(allocs)
        counts.frees = objects(frees)
        counts.lifetimes = objects(lifetimes)
        counts.temporary = objects(temporary)
        return counts
    }
}
