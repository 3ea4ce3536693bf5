// SPDX-License-Identifier: MIT
import CRegion
import Testing

@testable import HeapImage

/// Stacks that are sampled, of mappings, or parts: rows of their own, and sums of their own.
@Suite struct StackKindsTests {
    private func table(_ sample: SampleRegion) throws -> StackTable {
        let region = ByteArray(bytes: sample.bytes)
        return try StackTable(region, region.header())
    }

    @Test func sampledStacksAreEstimates() throws {
        var sample = SampleRegion()
        let flags = MC_STACK_SAMPLED | 12 << MC_STACK_INTERVAL_SHIFT
        sample.stack(3, frame: 3, depth: 3, flags: flags)  // the frames of stack 2
        sample.count(
            3, shard: 0, mc_region_counters(2560, 512, bytes: 5000, 1000, usable: 6000, 1200))
        sample.samples(
            3,
            mc_region_samples(
                taken: 9, freed: 2, count_square_in: 30, count_square_out: 14,
                bytes_square_in: 110, bytes_square_out: 10, reserved: (0, 0)))
        let table = try table(sample)
        #expect(table.rows.map(\.stack) == [2, 3, 5])
        let row = table.rows[1]
        #expect((row.counts.allocs, row.counts.frees, row.counts.live) == (10, 2, 8))
        #expect(row.counts.liveBytes == 4000)
        let estimate = try #require(row.estimate)
        #expect((estimate.taken, estimate.freed) == (9, 2))
        #expect(estimate.countVariance == 16)
        #expect(estimate.bytesVariance == 100 * 4096)
        #expect((estimate.countError, estimate.bytesError) == (4, 640))
        // The exact sums are of the others alone.
        #expect(table.total.live == 7)
        #expect(table.sampled?.counts.live == 8)
        #expect(table.interval(ofStack: 3) == 12)
        #expect(table.interval(ofStack: 2) == 0)
        #expect(table.interval(ofStack: 4000) == 0)
    }

    @Test func anIntervalThatCantBeIsNone() throws {
        var sample = SampleRegion()
        sample.stack(
            3, frame: 3, depth: 3, flags: MC_STACK_SAMPLED | 200 << MC_STACK_INTERVAL_SHIFT)
        #expect(try table(sample).rows[1].estimate == nil)
    }

    @Test func samplesBeyondTheEndAreNone() throws {
        var sample = SampleRegion()
        sample.stack(3, frame: 3, depth: 3, flags: MC_STACK_SAMPLED | 12 << MC_STACK_INTERVAL_SHIFT)
        sample.bytes.removeLast(SampleRegion.capacity * 64)
        let table = try table(sample)
        #expect(table.rows[1].estimate == Estimate())
        #expect(table.total.live == 7)
    }

    @Test func mappingsHaveASumOfTheirOwn() throws {
        var sample = SampleRegion()
        sample.stack(3, frame: 3, depth: 3, flags: MC_STACK_MAPPED)
        let table = try table(sample)
        #expect(table.rows[1].isMapped)
        #expect((table.mapped.live, table.mapped.liveBytes) == (5, 80))
        #expect(table.total.live == 7)
    }

    @Test func partsKnowTheirRow() throws {
        var sample = SampleRegion()
        // The innermost frame alone, then with all outer ones.
        sample.stack(5, frame: 7, depth: 1, flags: MC_STACK_CUT | MC_STACK_SPLIT | MC_STACK_DEEPEN)
        sample.frame(7, pc: 0x500300, parent: 0)
        sample.stack(3, frame: 3, depth: 3, flags: MC_STACK_PART)
        let table = try table(sample)
        #expect(table.rows.map(\.stack) == [2, 3, 5])
        #expect(table.rows.map(\.parent) == [nil, 2, nil])
        #expect(table.rows.map(\.isDeepened) == [false, false, true])
        // Each counts for itself: the total holds nothing twice.
        #expect(table.total.live == 12)
        #expect(table.stacks(inRow: 0) == [2, 4])
    }

    @Test func aPartWithoutItsRowStandsAlone() throws {
        var sample = SampleRegion()
        sample.stack(3, frame: 3, depth: 3, flags: MC_STACK_PART)
        #expect(try table(sample).rows.allSatisfy { $0.parent == nil })
    }

    @Test func lifetimesAreOfTheFreed() throws {
        var sample = SampleRegion()
        var counters = mc_region_counters(10, 4, bytes: 1000, 400, usable: 1120, 448)
        (counters.lifetimes, counters.temporary) = (40, 1)
        sample.count(2, shard: 0, counters)
        (counters.lifetimes, counters.temporary) = (10, 2)
        sample.count(2, shard: 5, counters)
        let counts = try table(sample).rows[0].counts
        #expect((counts.lifetimes, counts.temporary, counts.frees) == (50, 3, 9))
        #expect(counts.meanLifetimeNanoseconds == 50 * 250_000_000 / 9)
        #expect(StackCounts(allocs: 3).meanLifetimeNanoseconds == nil)
    }

    /// As the process weighs: `sampling_weights` of Tests/Core holds that to another formula.
    @Test func oneObjectStandsForMany() {
        let small = Estimate.ofOne(requested: 64, usable: 64, interval: 19)
        #expect(abs(small.count - 8192.5) < 0.001)
        #expect(abs(small.bytes - 64 * 8192.5) < 0.1)
        let large = Estimate.ofOne(requested: 1 << 40, usable: 1 << 40, interval: 19)
        #expect((large.count, large.3.bytesVariance) == (1, 0))
        #expect(Estimate.ofOne(requested: 0, usable: 16, interval: 19).count > 0)
    }
}
