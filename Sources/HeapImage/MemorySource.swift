// SPDX-License-Identifier: MIT

/// Bytes of another address space.
package struct MemoryRange: Equatable, Sendable {
    package var start: UInt64
    package var size: Int

    package init(start: UInt64, size: Int) {
        self.start = start
        self.size = size
    }
}

/// Bytes of another address space: a live process or a core file.
package protocol MemorySource {
    /// Fills the whole buffer or throws.
    func read(
        _ address: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(HeapImageError)

    /// Reads ranges one after the other into the buffer, which is as large as all of them. A range
    /// that can't be read whole gets zeros and a false.
    func read(
        _ ranges: [MemoryRange], into buffer: UnsafeMutableRawBufferPointer
    ) throws(HeapImageError) -> [Bool]

    /// The parts of a range that may have memory behind them, whole pages but for the range's own
    /// ends; the rest reads as zero. Reading only those gives the process no pages it did not have.
    func populated(_ range: MemoryRange) -> [MemoryRange]
}

extension MemorySource {
    package func populated(_ range: MemoryRange) -> [MemoryRange] { [range] }

    package func read(
        _ ranges: [MemoryRange], into buffer: UnsafeMutableRawBufferPointer
    ) throws(HeapImageError) -> [Bool] {
        var position = 0
        var whole: [Bool] = []
        whole.reserveCapacity(ranges.count)
        for range in ranges {
            let part = UnsafeMutableRawBufferPointer(
                rebasing: buffer[position..<position + range.size])
            do {
                try read(range.start, into: part)
                whole.append(true)
            } catch {
                guard case .unreadable = error else { throw error }
                part.initializeMemory(as: UInt8.self, repeating: 0)
                whole.append(false)
            }
            position += range.size
        }
        return whole
    }

    /// One plain C struct or number. (One with a union is not BitwiseCopyable to Swift.)
    func load<Value>(
        _ type: Value.Type, at address: UInt64, zero: Value
    ) throws(HeapImageError) -> Value {
        var value = zero
        try fill(&value, from: address)
        return value
    }

    /// As many plain values as the array has.
    func load<Value>(
        into values: inout [Value], from address: UInt64
    ) throws(HeapImageError) {
        var failure: HeapImageError?
        values.withUnsafeMutableBytes { buffer in
            do throws(HeapImageError) {
                try read(address, into: buffer)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }

    private func fill<Value>(
        _ value: inout Value, from address: UInt64
    ) throws(HeapImageError) {
        var failure: HeapImageError?
        withUnsafeMutableBytes(of: &value) { buffer in
            do throws(HeapImageError) {
                try read(address, into: buffer)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }
}
